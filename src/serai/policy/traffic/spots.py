"""Addresses as numbers: to tell, sort and join a great many of them takes a fraction of what it takes with objects.

A *spot* is an address of either version: what the bits of IPv4 say as they are, those of IPv6 behind all of them. A *span* is its first and its last spot.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import Final

from serai.model.address import Address, Prefix

Span = tuple[int, int]
IPV6: Final = 1 << 128
"""Added to what the bits of an IPv6 address say."""


def spot(address: Address) -> int:
    """Return the spot of an address."""
    return int(address) if address.version == 4 else int(address) + IPV6  # noqa: PLR2004


def span(prefix: Prefix) -> Span:
    """Return the span of a prefix."""
    first = spot(prefix.network_address)
    return first, first + (1 << prefix.max_prefixlen - prefix.prefixlen) - 1


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the fewest spans that hold just what these hold, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


class Reach:
    """Which spots some spans hold, which are in order and apart from each other."""

    def __init__(self, spans: Sequence[Span]) -> None:
        """Take the spans."""
        self._firsts, self._lasts = [first for first, _ in spans], [last for _, last in spans]

    def __contains__(self, where: int) -> bool:
        at = bisect.bisect_right(self._firsts, where) - 1
        return at >= 0 and where <= self._lasts[at]
