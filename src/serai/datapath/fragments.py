"""Forgets the datagrams that gates remember by their first fragments, so that there is room for those to come."""

from __future__ import annotations

from serai.datapath.maps import Array, Map
from serai.model.flow import FRAGMENTS_SECONDS

_NS = 1_000_000_000
_LIFE_NS = FRAGMENTS_SECONDS * _NS  # the gate does not look at older ones
_PAUSE_NS = 5 * _NS


class Fragments:
    """The map of datagrams in pieces: every vNIC has places of its own in it, but not all vNICs fit at a time."""

    def __init__(self, fragments: Map) -> None:
        """Use the gate's map."""
        self._map = fragments
        self._next_ns = 0

    def sweep(self, now_ns: int) -> int:
        """Remove what is complete or too old, every few seconds, and return how much."""
        if now_ns < self._next_ns:
            return 0
        self._next_ns = now_ns + _PAUSE_NS
        removed = 0
        keys, values = self._map.dump()
        for key in keys[_is_over(values, now_ns)]:
            now = self._map.get(key)  # its place may serve another datagram by now
            if now is not None and _is_over(now, now_ns).all():
                self._map.delete(key)
                removed += 1
        return removed


def _is_over(values: Array, now_ns: int) -> Array:
    """Complete ones, and those that are being written at this very moment, have no time."""
    over: Array = now_ns - values["first_ns"].astype("i8") > _LIFE_NS
    return over
