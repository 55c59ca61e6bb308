"""Few prefixes for many addresses and few ranges for many ports: exact as long as they stay few, else as little wider as can be."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TypeVar

from serai.model.address import Address, Prefix, in_order, prefix_of
from serai.model.policy import PortRange
from serai.model.ports import WITH_PORTS
from serai.policy.traffic.seen import DYNAMIC, service_order

MOST_PREFIXES = 32
"""So many prefixes of one version stand in a rule before they are made wider."""
WIDENED_PREFIXES = 8
"""So many are left then."""
MOST_RANGES = 32
"""So many ranges of ports of one protocol stand in a rule before they are made wider."""
_SHORTEST = {4: 8, 6: 16}
"""A prefix that would be shorter than this means that addresses come from all over: the whole of the version is written."""
T = TypeVar("T")
_WHOLE: dict[int, Prefix] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def prefixes(addresses: Iterable[Address]) -> tuple[Prefix, ...]:
    """Return prefixes that hold all the addresses, and nothing else unless they would be too many; in order."""
    exact = disjoint(map(prefix_of, addresses))
    few = (prefix for version in (4, 6) for prefix in _few([one for one in exact if one.version == version]))
    return tuple(sorted(few, key=in_order))


def disjoint(parts: Iterable[Prefix]) -> list[Prefix]:
    """Return the fewest prefixes that hold just what these hold."""
    found = list(parts)
    four: list[Prefix] = list(collapse_addresses(p for p in found if isinstance(p, IPv4Network)))
    six: list[Prefix] = list(collapse_addresses(p for p in found if isinstance(p, IPv6Network)))
    return [*four, *six]


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
            joined = _joined(pairs)
            pairs = joined if dynamic else list(_closed(joined))
        found += (PortRange(protocol=protocol, first=first, last=last) for first, last in pairs)
    return tuple(found)


def width(services: Iterable[PortRange]) -> int:
    """Return how many ports these are, each of them once."""
    ordered = sorted(services, key=service_order)
    return sum(
        last - first + 1
        for _, each in itertools.groupby(ordered, key=lambda service: service.protocol)
        for first, last in _joined((service.first, service.last) for service in each)
    )


def _few(exact: list[Prefix]) -> list[Prefix]:
    if len(exact) <= MOST_PREFIXES:
        return exact
    wider = _merged(exact, WIDENED_PREFIXES, _around, lambda prefix: prefix.num_addresses)
    version = exact[0].version
    return [_WHOLE[version]] if any(prefix.prefixlen < _SHORTEST[version] for prefix in wider) else list(wider)


def _around(one: Prefix, other: Prefix) -> Prefix:
    """Return the longest prefix that contains both."""
    first, last = int(one.network_address), int(other.broadcast_address)
    length = one.max_prefixlen - (first ^ last).bit_length()
    return one.supernet(new_prefix=min(length, one.prefixlen))


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


def _joined(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Make one of ranges, in order, that touch or overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in pairs:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


class Reach:
    """Which addresses some prefixes hold, apart from each other as ``prefixes`` returns them."""

    def __init__(self, parts: Iterable[Prefix]) -> None:
        """Take the prefixes."""
        ends = sorted((p.version, int(p.network_address), int(p.broadcast_address)) for p in parts)
        self._starts = [(version, first) for version, first, _ in ends]
        self._lasts = [last for _, _, last in ends]

    def __contains__(self, address: Address) -> bool:
        at = bisect.bisect_right(self._starts, (address.version, int(address))) - 1
        return at >= 0 and self._starts[at][0] == address.version and int(address) <= self._lasts[at]
