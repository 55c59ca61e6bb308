"""Addresses of both versions in one form."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serai.model import address
from serai.model.address import MAPPED, Prefix

addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda a: a not in MAPPED)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Prefixes that may be written, many of them inside each other."""
    base = draw(
        st.sampled_from(["0.0.0.1", "10.0.0.7", "::", "2001:db8::7", "::fffe:ffff:ffff"]).map(ip_address) | addresses
    )
    made = ip_network((base, draw(st.integers(0, base.max_prefixlen))), strict=False)
    assume(not isinstance(made, IPv6Network) or not made.subnet_of(MAPPED))
    return made


@given(addresses)
def test_there_and_back(one: address.Address) -> None:
    assert len(address.pack(one)) == 16
    assert address.unpack(address.pack(one)) == one
    assert address.parse(str(one)) == one


@given(prefixes())
def test_prefixes_there_and_back(one: Prefix) -> None:
    raw, length = address.pack(one.network_address), address.packed_length(one)
    assert address.unpack_prefix(raw, length) == one
    assert address.in_order(one) == (raw, length)
    assert address.parse_prefix(str(one)) == one


@given(prefixes(), prefixes())
def test_one_contains_the_other_if_all_its_addresses_do(outer: Prefix, inner: Prefix) -> None:
    ends = (inner.network_address, inner.broadcast_address)
    assert address.contains(outer, inner) == all(end in outer for end in ends)


@pytest.mark.parametrize(
    ("raw", "length"), [(bytes(15) + b"\1", 127), (bytes(16), 129), (bytes(16), -1), (b"\1" + bytes(15), 0)]
)
def test_no_prefix_has_bits_behind_its_length(raw: bytes, length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # ipaddress's own, of whatever text
        address.unpack_prefix(raw, length)


def test_the_mapped_addresses_are_those_of_ipv4() -> None:
    assert address.pack(IPv4Address("10.0.0.1")).hex() == "00000000000000000000ffff0a000001"
    assert address.packed_length(IPv4Network("10.0.0.0/8")) == 104
    assert address.unpack_prefix(MAPPED.network_address.packed, 96) == IPv4Network("0.0.0.0/0")
    assert address.prefix_of(IPv4Address("10.0.0.1")) == IPv4Network("10.0.0.1/32")
    assert address.prefix_of(IPv6Address("::1")) == IPv6Network("::1/128")


def test_a_mac_makes_a_link_local_address() -> None:
    """The example of RFC 4291, appendix A, with its bit 1 of byte 0 turned."""
    assert address.link_local(bytes.fromhex("34567890abcd")) == IPv6Address("fe80::3656:78ff:fe90:abcd")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"), ("::ffff:a00:1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::ffff:0:0/96", "0.0.0.0/0"), ("fe80::%eth0/64", "fe80::/64"),
    ],
)  # fmt: skip
def test_what_could_be_taken_for_another_is_refused_with_the_plain_form(text: str, instead: str) -> None:
    with pytest.raises(address.DisguiseError, match=f"write {instead}$"):
        (address.parse_prefix if "/" in text else address.parse)(text)


@given(st.text() | st.from_regex(r"[0-9a-f:.%/]{1,20}", fullmatch=True))
def test_any_other_text_is_a_value_error(text: str) -> None:
    for parse in (address.parse, address.parse_prefix):
        try:
            found = parse(text)
        except ValueError:
            continue
        assert parse(str(found)) == found
