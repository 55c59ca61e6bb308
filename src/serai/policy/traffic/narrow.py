"""Few prefixes for many addresses and few ranges for many ports: exact as long as they stay few, else as little wider as can be."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from serai.model.address import Prefix, in_order
from serai.model.policy import PortRange
from serai.model.ports import WITH_PORTS
from serai.policy.traffic.seen import DYNAMIC, service_order
from serai.policy.traffic.spots import IPV6, joined

MOST_PREFIXES = 32
"""So many prefixes of one version stand in a rule before they are made wider."""
WIDENED_PREFIXES = 8
"""So many are left then."""
MOST_RANGES = 32
"""So many ranges of ports of one protocol stand in a rule before they are made wider."""
_SHORTEST = {4: 8, 6: 16}
"""A prefix that would be shorter than this means that addresses come from all over: the whole of the version is written."""
_WIDTH = {4: 32, 6: 128}
_Part = tuple[int, int]
"""The first address of a prefix, as its bits say, and its length."""
T = TypeVar("T")


def prefixes(spots: Iterable[int]) -> tuple[Prefix, ...]:
    """Return prefixes that hold all the addresses, and nothing else unless they would be too many; in order."""
    found = sorted(set(spots))
    at = bisect.bisect_left(found, IPV6)
    four: list[Prefix] = [IPv4Network(part) for part in _few(found[:at], 4)]
    six: list[Prefix] = [IPv6Network(part) for part in _few([each - IPV6 for each in found[at:]], 6)]
    return tuple(sorted([*four, *six], key=in_order))


def ranges(services: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Return ranges that hold all the services, and nothing else unless they would be too many; in order.

    The dynamic ports are never reached by a range that begins before them.
    """
    found: list[PortRange] = []
    for (protocol, dynamic), each in itertools.groupby(
        sorted(set(services), key=service_order), key=lambda s: (s.protocol, s.first >= DYNAMIC[0])
    ):
        pairs = [(service.first, service.last) for service in each]
        if protocol in WITH_PORTS:  # all others are kinds of messages, and no two of them are one
            pairs = joined(pairs) if dynamic else list(_closed(joined(pairs)))
        found += (PortRange(protocol=protocol, first=first, last=last) for first, last in pairs)
    return tuple(found)


def width(services: Iterable[PortRange]) -> int:
    """Return how many ports these are, each of them once."""
    ordered = sorted(services, key=service_order)
    return sum(
        last - first + 1
        for _, each in itertools.groupby(ordered, key=lambda service: service.protocol)
        for first, last in joined((service.first, service.last) for service in each)
    )


def _few(addresses: Sequence[int], version: int) -> list[_Part]:
    width = _WIDTH[version]
    exact = list(_exact(addresses, width))
    if len(exact) <= MOST_PREFIXES:
        return exact
    wider = _merged(
        exact, WIDENED_PREFIXES, lambda one, other: _around(one, other, width), lambda part: 1 << width - part[1]
    )
    return [(0, 0)] if any(length < _SHORTEST[version] for _, length in wider) else wider


def _exact(addresses: Iterable[int], width: int) -> Iterator[_Part]:
    """Go through the fewest prefixes that hold just these addresses, in order."""
    for first, last in joined((each, each) for each in addresses):
        at = first
        while at <= last:
            aligned = (at & -at).bit_length() - 1 if at else width
            room = min(aligned, (last - at + 1).bit_length() - 1)
            yield at, width - room
            at += 1 << room


def _around(one: _Part, other: _Part, width: int) -> _Part:
    """Return the longest prefix that contains both, of which the other one comes later."""
    last = other[0] + (1 << width - other[1]) - 1
    length = min(one[1], width - (one[0] ^ last).bit_length())
    return one[0] >> width - length << width - length, length


def _closed(exact: list[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """Close the smallest gaps until ranges are few."""
    return _merged(exact, MOST_RANGES, lambda one, other: (one[0], other[1]), lambda pair: pair[1] - pair[0] + 1)


def _merged(items: Sequence[T], most: int, both: Callable[[T, T], T], size: Callable[[T], int]) -> list[T]:
    """Join neighbours, always those that take in the least, until ``most`` are left.

    Args:
        items: in order, apart from each other.
        most: how many may be left.
        both: returns what holds two neighbours; it may hold what lies beyond them, too.
        size: how much an item holds.
    """
    left = dict(enumerate(items))
    after = {number: number + 1 for number in range(len(items) - 1)}
    before = {later: earlier for earlier, later in after.items()}

    def cost(number: int) -> tuple[int, int, T, T]:
        one, other = left[number], left[after[number]]
        return size(both(one, other)) - size(one) - size(other), number, one, other

    heap = [cost(number) for number in after]
    heapq.heapify(heap)
    while len(left) > most:
        _, number, one, other = heapq.heappop(heap)
        if number not in after or left.get(number) is not one or left[after[number]] is not other:
            continue
        left[number] = both(one, other)
        _unlink(left, after, before, number)
        # What holds both may hold neighbours on either side as well.
        while number in after and size(both(left[number], left[after[number]])) == size(left[number]):
            _unlink(left, after, before, number)
        while number in before and size(both(left[before[number]], left[number])) == size(left[number]):
            earlier = before[number]
            left[earlier] = left[number]
            _unlink(left, after, before, earlier)
            number = earlier
        for changed in (number, before.get(number)):
            if changed is not None and changed in after:
                heapq.heappush(heap, cost(changed))
    return [left[number] for number in sorted(left)]


def _unlink(left: dict[int, T], after: dict[int, int], before: dict[int, int], number: int) -> None:
    """Take the item behind ``number`` out."""
    gone = after.pop(number)
    del left[gone]
    del before[gone]
    if gone in after:
        after[number] = after.pop(gone)
        before[after[number]] = number
