"""Prefixes inside prefixes: which of them an address is in, and which need a record of their own."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from ipaddress import IPv4Network
from typing import Final

from serai.model.address import IPV4_AT, MAPPED, Prefix, pack, packed_length

Within = tuple[int, ...]
"""The prefixes that something is in, by their places, in order."""

_IPV4: Final = IPv4Network("0.0.0.0/0")
_MAPPED_FIRST, _MAPPED_LAST = int(MAPPED.network_address), int(MAPPED.broadcast_address)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nest:
    """Prefixes that each lie in another or apart from it, as all prefixes do."""

    rows: tuple[tuple[bytes, int, Within], ...]
    """Each prefix that needs a record: its 16 bytes, how many of the 128 bits it fixes, and what it is in, itself included.

    In order of address and length. An IPv6 prefix that covers the mapped addresses by its leading bits does not mean them:
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
        place = bisect.bisect_right(self.starts, int.from_bytes(first)) - 1
        following = place + 1
        if following < len(self.starts) and self.starts[following] <= int.from_bytes(last):
            return None
        return self.within[place]


@functools.lru_cache(maxsize=1 << 16)
def _span(prefix: Prefix) -> tuple[int, int, bytes, int]:
    """Its first and last address among those of 128 bits, its bytes, and how many bits it fixes."""
    raw, length = pack(prefix.network_address), packed_length(prefix)
    first = int.from_bytes(raw)
    return first, first | (1 << 128 - length) - 1, raw, length


@functools.lru_cache(maxsize=1 << 12)
def nest(prefixes: tuple[Prefix, ...]) -> Nest:
    """Sort ``prefixes`` (no one twice) into each other; their places are the answers."""
    spans = [(*_span(prefix), (place,)) for place, prefix in enumerate(prefixes)]
    if _IPV4 not in prefixes and any(a < _MAPPED_FIRST and _MAPPED_LAST <= b and n < IPV4_AT for a, b, _, n, _ in spans):
        spans.append((*_span(_IPV4), ()))
    spans.sort(key=lambda span: (span[0], span[3]))
    rows: list[tuple[bytes, int, Within]] = []
    starts, answers = [0], [Within()]
    around: list[tuple[int, Within]] = []

    def say(start: int, within: Within) -> None:
        if starts[-1] == start:
            answers[-1] = within
        elif answers[-1] != within:
            starts.append(start)
            answers.append(within)

    def leave(before: int) -> None:
        while around and around[-1][0] < before:
            end, _ = around.pop()
            say(end + 1, around[-1][1] if around else ())

    for first, last, raw, length, own in spans:
        leave(first)
        # Nothing of IPv6 reaches into IPv4.
        outer = around[-1][1] if around and (first, length) != (_MAPPED_FIRST, IPV4_AT) else ()
        within = tuple(sorted((*outer, *own)))
        rows.append((raw, length, within))
        around.append((last, within))
        say(first, within)
    leave(1 << 128)
    if starts[-1] == 1 << 128:
        del starts[-1], answers[-1]
    return Nest(
        rows=tuple(rows),
        starts=tuple(starts),
        within=tuple(answers),
        distinct=tuple(sorted({within for _, _, within in rows})),
        addresses=b"".join(raw for raw, _, _ in rows),
    )
