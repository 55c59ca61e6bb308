"""Sets of ports as bit masks, so that their algebra is exact and costs nearly nothing.

The ranges that are spoken of cut all protocols and ports into *cells*. No range tells two ports of a cell apart, so a
set of ports is the mask of its cells.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from serai.model.policy import ANY_PROTOCOL, PortRange

_LAST_PORT = 65535
_PROTOCOLS = 256


class Cells:
    """The cells that some ranges make. Only sets of these ranges can be asked for."""

    def __init__(self, ranges: Iterable[PortRange]) -> None:
        """Cut along ``ranges``."""
        spoken = set(ranges)
        named = {r.protocol for r in spoken} - {ANY_PROTOCOL}
        # What is said of every protocol cuts each of them, those that nobody names among them.
        protocols = sorted(named if len(named) == _PROTOCOLS else {*named, ANY_PROTOCOL})
        self._firsts: dict[int, list[int]] = {}
        self._bases: dict[int, int] = {}
        base = 0
        for protocol in protocols:
            cutting = [r for r in spoken if r.protocol in {protocol, ANY_PROTOCOL}]
            edges = {0} | {r.first for r in cutting} | {r.last + 1 for r in cutting}
            self._firsts[protocol] = sorted(edge for edge in edges if edge <= _LAST_PORT)
            self._bases[protocol] = base
            base += len(self._firsts[protocol])
        self.everything = (1 << base) - 1
        """Every protocol and port."""
        self._known: dict[tuple[PortRange, ...], int] = {(): self.everything}

    def of(self, ports: tuple[PortRange, ...]) -> int:
        """Return the set of ``ports``; none stand for everything, as in a clause."""
        if ports not in self._known:
            mask = 0
            for each in ports:
                mask |= self._range(each)
            self._known[ports] = mask
        return self._known[ports]

    def _range(self, ports: PortRange) -> int:
        mask = 0
        for protocol in self._firsts if ports.protocol == ANY_PROTOCOL else (ports.protocol,):
            firsts, base = self._firsts[protocol], self._bases[protocol]
            begin, end = bisect_left(firsts, ports.first), bisect_left(firsts, ports.last + 1)
            mask |= ((1 << (end - begin)) - 1) << (base + begin)
        return mask
