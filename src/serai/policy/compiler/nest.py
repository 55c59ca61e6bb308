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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nest:
    """Prefixes that each lie in another or apart from it, as all prefixes do."""

    rows: tuple[tuple[bytes, int], ...]
    """Each prefix that needs a record, by its 16 bytes and how many of the 128 bits it fixes, in that order.

    An IPv6 prefix that covers the mapped addresses by its leading bits does not mean them: a row for all of IPv4 says so,
    unless there is one anyway.
    """
    distinct: tuple[Within, ...]
    """What rows are in, themselves included: each answer once."""
    addresses: bytes
    """The 16 bytes of each row."""
    lengths: bytes
    """How many bits each row fixes, in 4 bytes."""
    which: bytes
    """Which of ``distinct`` each row is in, in 4 bytes."""
    starts: tuple[int, ...]
    """Addresses, as numbers of 128 bits, from which on an answer holds; the first is 0."""
    within: tuple[Within, ...]
    """The answers."""

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
        rows, distinct = list(self.rows), list(self.distinct)
        addresses, lengths, which = self.addresses, self.lengths, self.which
        starts, within = list(self.starts), list(self.within)
        taken: list[tuple[int, int]] = []
        for own, prefix in enumerate(prefixes, start=place):
            span = _span(prefix)
            outer = self._at(span.first, span.last)
            if (
                outer is None
                or _covers_ipv4(span)
                or any(span.first <= end and begin <= span.last for begin, end in taken)
            ):
                return None
            taken.append((span.first, span.last))
            row = bisect.bisect_left(rows, (span.raw, span.length))
            if row < len(rows) and rows[row] == (span.raw, span.length):
                return None
            inside = (*outer, own)
            rows.insert(row, (span.raw, span.length))
            addresses = addresses[: 16 * row] + span.raw + addresses[16 * row :]
            lengths = lengths[: 4 * row] + span.length.to_bytes(4, "little") + lengths[4 * row :]
            which = which[: 4 * row] + len(distinct).to_bytes(4, "little") + which[4 * row :]
            distinct.append(inside)
            at = bisect.bisect_left(starts, span.first)
            if at < len(starts) and starts[at] == span.first:
                within[at] = inside
            else:
                starts.insert(at, span.first)
                within.insert(at, inside)
            if span.last + 1 < 1 << BITS and (at + 1 == len(starts) or starts[at + 1] > span.last + 1):
                starts.insert(at + 1, span.last + 1)
                within.insert(at + 1, outer)
        return Nest(
            rows=tuple(rows), distinct=tuple(distinct), addresses=addresses, lengths=lengths, which=which,
            starts=tuple(starts), within=tuple(within),
        )  # fmt: skip


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


def _covers_ipv4(span: _Span) -> bool:
    """Say whether an IPv6 prefix has the mapped addresses in it, by its leading bits only."""
    return span.length < IPV4_AT and span.first <= _MAPPED_FIRST and span.last >= _MAPPED_LAST


def nest(prefixes: Sequence[Prefix]) -> Nest:
    """Sort ``prefixes`` (no one twice) into each other; their places are the answers."""
    spans: list[tuple[_Span, Within]] = [(_span(prefix), (place,)) for place, prefix in enumerate(prefixes)]
    covered = any(_covers_ipv4(span) for span, _ in spans)
    if covered and _IPV4 not in prefixes:
        spans.append((_span(_IPV4), ()))
    spans.sort(key=lambda each: (each[0].first, each[0].length))
    rows: list[tuple[bytes, int]] = []
    distinct: dict[Within, int] = {}
    which: list[int] = []
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
        rows.append((span.raw, span.length))
        which.append(distinct.setdefault(inside, len(distinct)))
        around.append((span.last, inside))
        say(span.first, inside)
    leave(1 << BITS)
    if starts[-1] == 1 << BITS:
        del starts[-1], answers[-1]
    return Nest(
        rows=tuple(rows), distinct=tuple(distinct), addresses=b"".join(raw for raw, _ in rows),
        lengths=b"".join(length.to_bytes(4, "little") for _, length in rows),
        which=b"".join(place.to_bytes(4, "little") for place in which),
        starts=tuple(starts), within=tuple(answers),
    )  # fmt: skip
