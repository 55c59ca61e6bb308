"""The grammar of ports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import format_ports, parse_ports


@pytest.mark.parametrize(
    ("text", "protocol", "first", "last"),
    [
        ("tcp/443", 6, 443, 443),
        ("tcp/8000-8099", 6, 8000, 8099),
        ("udp", 17, 0, 65535),
        ("icmp", 1, 0, 65535),
        ("icmp/8", 1, 2048, 2303),
        ("icmp/3.4", 1, 772, 772),
        ("sctp/3868", 132, 3868, 3868),
        ("sctp/2904-2905", 132, 2904, 2905),
        ("sctp", 132, 0, 65535),
        ("icmpv6", 58, 0, 65535),
        ("icmpv6/128", 58, 32768, 33023),
        ("icmpv6/1.4", 58, 260, 260),
        ("47", 47, 0, 65535),
        ("any", ANY_PROTOCOL, 0, 65535),
    ],
)
def test_ports_are_read_and_written(text: str, protocol: int, first: int, last: int) -> None:
    ports = PortRange(protocol=protocol, first=first, last=last)
    assert parse_ports(text) == ports
    assert format_ports(ports) == text


@pytest.mark.parametrize(("text", "name"), [("1", "icmp"), ("58", "icmpv6"), ("132", "sctp"), ("006", "tcp")])
def test_numbers_of_protocols_with_a_name_mean_the_same(text: str, name: str) -> None:
    assert parse_ports(text) == parse_ports(name)


@pytest.mark.parametrize("text", ["https", "/acme:https", "tcp-alt"])
def test_other_names_are_services(text: str) -> None:
    assert parse_ports(text) is None


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        ports = parse_ports(text)
    except ValueError:
        pass
    else:
        assert ports is None or parse_ports(format_ports(ports)) == ports
