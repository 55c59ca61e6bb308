"""Prefixes inside prefixes: which of them an address is in, and which need a record of their own."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Final, NamedTuple

from serai.model.address import BITS, IPV4_AT, MAPPED, Prefix, pack, packed_length

Within = tuple[int, ...]
"""The prefixes that something is in, by their places, in order."""

_IPV4: Final = IPv4Network("0.0.0.0/0")
_MAPPED_FIRST, _MAPPED_LAST = int(MAPPED.network_address), int(MAPPED.broadcast_address)


Row = tuple[bytes, int, Within]
"""A prefix: its 16 bytes, how many of the 128 bits it fixes, and what it is in, itself included."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nest:
    """Prefixes that each lie in another or apart from it, as all prefixes do."""

    rows: tuple[Row, ...]
    """Each prefix that needs a record, in order of address and length.

    An IPv6 prefix that covers the mapped addresses by its leading bits does not mean them:
    a row for all of IPv4 says so, unless there is one anyway.
    """
    starts: tuple[int, ...]
    """Addresses, as numbers of 128 bits, from which on an answer holds; the first is 0."""
    within: tuple[Within, ...]
    """The answers."""
    distinct: tuple[Within, ...]
    """What rows are in: each answer once, in order."""
    addresses: bytes
    """Of the rows, one behind the other."""

    def at(self, first: bytes, last: bytes) -> Within | None:
        """Return what all addresses from ``first`` to ``last`` are in; None where that is not the same for all."""
        return self._at(int.from_bytes(first), int.from_bytes(last))

    def _at(self, first: int, last: int) -> Within | None:
        following = bisect.bisect_right(self.starts, first)
        if following < len(self.starts) and self.starts[following] <= last:
            return None
        return self.within[following - 1]

    def with_apart(self, prefixes: Sequence[Prefix], place: int) -> Nest | None:
        """Return this nest with more prefixes, whose places begin at ``place``.

        None where it takes ``nest``, which is slower: where some of them lie around others, or around what is here.
        """
        rows, starts, within = list(self.rows), list(self.starts), list(self.within)
        taken: list[tuple[int, int]] = []
        for own, prefix in enumerate(prefixes, start=place):
            span = _span(prefix)
            outer = self._at(span.first, span.last)
            covers_ipv4 = span.first <= _MAPPED_FIRST and _MAPPED_LAST <= span.last and span.length < IPV4_AT
            if outer is None or covers_ipv4 or any(span.first <= end and begin <= span.last for begin, end in taken):
                return None
            taken.append((span.first, span.last))
            inside = (*outer, own)
            row = bisect.bisect_left(rows, (span.raw, span.length, ()))
            if row < len(rows) and rows[row][:2] == (span.raw, span.length):
                return None
            rows.insert(row, (span.raw, span.length, inside))
            at = bisect.bisect_left(starts, span.first)
            if at < len(starts) and starts[at] == span.first:
                within[at] = inside
            else:
                starts.insert(at, span.first)
                within.insert(at, inside)
            if span.last + 1 < 1 << BITS and (at + 1 == len(starts) or starts[at + 1] > span.last + 1):
                starts.insert(at + 1, span.last + 1)
                within.insert(at + 1, outer)
        return _nest(rows, starts, within)


class _Span(NamedTuple):
    first: int
    last: int
    raw: bytes
    length: int


@functools.lru_cache(maxsize=1 << 16)
def _span(prefix: Prefix) -> _Span:
    """Where a prefix lies among the addresses of 128 bits."""
    raw, length = pack(prefix.network_address), packed_length(prefix)
    first = int.from_bytes(raw)
    return _Span(first, first | (1 << BITS - length) - 1, raw, length)


def _nest(rows: Sequence[Row], starts: Sequence[int], within: Sequence[Within]) -> Nest:
    return Nest(
        rows=tuple(rows),
        starts=tuple(starts),
        within=tuple(within),
        distinct=tuple(sorted({inside for _, _, inside in rows})),
        addresses=b"".join([raw for raw, _, _ in rows]),
    )


def nest(prefixes: Sequence[Prefix]) -> Nest:
    """Sort ``prefixes`` (no one twice) into each other; their places are the answers."""
    spans = [(_span(prefix), (place,)) for place, prefix in enumerate(prefixes)]
    covered = any(s.first <= _MAPPED_FIRST and _MAPPED_LAST <= s.last and s.length < IPV4_AT for s, _ in spans)
    if covered and _IPV4 not in prefixes:
        spans.append((_span(_IPV4), ()))
    spans.sort(key=lambda each: (each[0].first, each[0].length))
    rows: list[Row] = []
    starts, answers = [0], [Within()]
    around: list[tuple[int, Within]] = []

    def say(start: int, inside: Within) -> None:
        if starts[-1] == start:
            answers[-1] = inside
        elif answers[-1] != inside:
            starts.append(start)
            answers.append(inside)

    def leave(before: int) -> None:
        while around and around[-1][0] < before:
            end, _ = around.pop()
            say(end + 1, around[-1][1] if around else ())

    for span, own in spans:
        leave(span.first)
        # Nothing of IPv6 reaches into IPv4.
        outer = around[-1][1] if around and (span.first, span.length) != (_MAPPED_FIRST, IPV4_AT) else ()
        inside = tuple(sorted((*outer, *own)))
        rows.append((span.raw, span.length, inside))
        around.append((span.last, inside))
        say(span.first, inside)
    leave(1 << BITS)
    if starts[-1] == 1 << BITS:
        del starts[-1], answers[-1]
    return _nest(rows, starts, answers)
