"""Prefixes for addresses and ranges for ports: exact while few, and never without what they are for."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from serai.model.address import in_order
from serai.model.policy import PortRange
from serai.policy.traffic.narrow import MOST_PREFIXES, MOST_RANGES, prefixes, ranges, width
from serai.policy.traffic.spots import Reach, joined, span, spot

near = st.integers(0, 2000).map(lambda n: IPv4Address(0x0A000000 + n)) | st.integers(0, 500).map(
    lambda n: IPv6Address((0x20010DB8 << 96) + n)
)
far = st.ip_addresses()


@given(st.sets(near | far, max_size=200))
def test_every_address_is_held_and_nothing_twice(addresses: set[IPv4Address | IPv6Address]) -> None:
    found = prefixes(map(spot, addresses))
    reach = Reach(joined(map(span, found)))
    assert all(spot(address) in reach for address in addresses)
    for address in (*addresses, ip_address("10.0.0.9"), ip_address("::10.0.0.9"), ip_address("2001:db8::9")):
        for beside in (address, address + 1 if int(address) < 2**32 - 1 else address):
            assert (spot(beside) in reach) == any(beside in prefix for prefix in found)
    for version in (4, 6):
        mine = [prefix for prefix in found if prefix.version == version]
        assert len(mine) <= MOST_PREFIXES
        assert not any(a.overlaps(b) for a in mine for b in mine if a is not b)
    if sum(prefix.num_addresses for prefix in found) > len(addresses):
        assert len(addresses) > MOST_PREFIXES


@given(st.sets(st.integers(1, 49151), max_size=120), st.booleans())
def test_every_port_is_held(ports: set[int], dynamic: bool) -> None:  # noqa: FBT001
    services = [PortRange(protocol=6, first=port, last=port) for port in ports]
    services += [PortRange(protocol=6, first=49152, last=65535)] * dynamic
    found = ranges(services)
    assert len(found) <= MOST_RANGES + 1
    assert all(any(one.first <= s.first and s.last <= one.last for one in found) for s in services)
    assert width(found) >= width(services)
    if len(ports) <= MOST_RANGES:
        assert width(found) == width(services)
    assert all(one.last < 49152 or one.first >= 49152 for one in found)


def test_neighbours_become_one() -> None:
    addresses = [ip_address(f"192.0.2.{n}") for n in range(16, 32)]
    assert prefixes(map(spot, [*addresses, ip_address("2001:db8::1")])) == (
        ip_network("192.0.2.16/28"),
        ip_network("2001:db8::1/128"),
    )


def test_messages_do_not_become_one() -> None:
    two = [PortRange(protocol=1, first=2048, last=2048), PortRange(protocol=1, first=2049, last=2049)]
    assert list(ranges(two)) == two


def test_from_all_over_is_from_anywhere() -> None:
    assert prefixes(spot(IPv4Address(n << 24 | 7)) for n in range(20, 90)) == (ip_network("0.0.0.0/0"),)


@given(st.sets(near, max_size=200))
def test_few_addresses_are_told_exactly(addresses: set[IPv4Address | IPv6Address]) -> None:
    exact = [
        prefix
        for version in (IPv4Address, IPv6Address)
        for prefix in collapse_addresses(address for address in addresses if isinstance(address, version))
    ]
    if max((sum(prefix.version == version for prefix in exact) for version in (4, 6)), default=0) <= MOST_PREFIXES:
        assert prefixes(map(spot, addresses)) == tuple(sorted(exact, key=in_order))
    spans = joined(map(span, exact))
    assert sum(last - first + 1 for first, last in spans) == len(addresses)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(spans))
