"""What has been told of the flows of one vNIC: its counters as of then, found again by key and beginning.

Ports serve one connection after another: flows with one key are told apart by when they began.
"""

from __future__ import annotations

import os
from typing import Final, Self

import numpy as np

from serai.datapath.layout import FLOW_KEY
from serai.datapath.maps import Array, opaque, pick, together

TOLD: Final = np.dtype(
    [
        ("hash", "<u8"),
        ("first_ns", "<u8"),
        ("key", FLOW_KEY),
        ("packets", "<u8", (2,)),
        ("bytes", "<u8", (2,)),
        ("identity", "<u8"),
        ("rule", "<u8"),
        ("syn_repeats", "<u2"),
        ("origin", "u1"),
        ("step", "u1"),
        ("staged_step", "u1"),
        ("flags", "u1"),
        ("missing", "u1"),
        ("pad", "u1"),
    ]
)
"""One flow. ``missing``: its table did not hold it at the last reading."""
SAME: Final = ("first_ns", "packets", "bytes", "identity", "rule", "syn_repeats", "origin", "step", "staged_step")
"""What stands in it as it stood in the flow."""

TOLD_RTT, TOLD_UNANSWERED, TOLD_REFUSED = 1, 2, 4
ELSEWHERE: Final = 8
"""It began on another host, or before anybody counted: that is not told here."""
GONE: Final = 16
"""It lives on on another host: that it ends is not told here."""

_WORDS: Final = FLOW_KEY.itemsize // 8
_MIX: Final = np.frombuffer(os.urandom(8 * (_WORDS + 1)), "<u8") | np.uint64(1)
"""Of this process: nobody outside can make many flows with one hash."""
_HALF: Final = np.uint64(32)


class Told:
    """The flows of one vNIC, by hash. ``rows`` never change in place, so that they can be written down while others come."""

    def __init__(self, rows: Array | None = None) -> None:
        """Begin with ``rows`` (``TOLD``), whatever their hashes and order."""
        self.rows: Array = _sorted(rows) if rows is not None else np.empty(0, TOLD)
        self._dead: Array = np.zeros(len(self.rows), "?")
        self._hashes: Array = np.ascontiguousarray(self.rows["hash"])

    @classmethod
    def of(cls, keys: Array, flows: Array) -> Self:
        """Take flows for told as they are."""
        return cls(as_told(keys, flows))

    def __len__(self) -> int:
        """How many there are, those that are forgotten until the next change among them."""
        return len(self.rows)

    @property
    def living(self) -> Array:
        """Which rows are not forgotten."""
        return ~self._dead

    def alive(self) -> Array:
        """All rows that are not forgotten."""
        return pick(self.rows, ~self._dead) if self._dead.any() else self.rows

    def find(self, keys: Array, first_ns: Array) -> Array:
        """Return the place of each flow in ``rows``; -1 where it is not there."""
        places = np.full(len(keys), -1, "i8")
        if not len(self.rows):
            return places
        wanted, words = hashes(keys, first_ns), _words(keys)
        at = np.searchsorted(self._hashes, wanted)
        left = np.arange(len(keys))
        while len(left):  # once, unless two flows have one hash
            there = np.minimum(at[left], len(self.rows) - 1)
            left = left[(at[left] == there) & (self._hashes[there] == wanted[left])]
            there = at[left]
            found = pick(self.rows, there)
            same = (_words(found["key"]) == words[left]).all(axis=1) & (found["first_ns"] == first_ns[left])
            same &= ~self._dead[there]
            places[left[same]] = there[same]
            left = left[~same]
            at[left] += 1
        return places

    def forget(self, places: Array) -> None:
        """Let the flows at these places go."""
        self._dead[places] = True

    def change(self, rows: Array, fresh: Array) -> None:
        """Replace ``rows`` by others of the same flows, in their places; add those of ``fresh``, which have no hash yet."""
        same = not len(fresh) and not self._dead.any()
        if not same:
            fresh["hash"] = hashes(fresh["key"], fresh["first_ns"])
            rows = _ordered(together([pick(rows, ~self._dead), fresh], TOLD))
            self._dead = np.zeros(len(rows), "?")
            self._hashes = np.ascontiguousarray(rows["hash"])
        self.rows = rows


def as_told(keys: Array, flows: Array) -> Array:
    """Return rows (``TOLD``) that say of each flow what it says itself."""
    rows = np.zeros(len(keys), TOLD)
    opaque(rows["key"])[:] = opaque(keys)
    for field in SAME:
        if field in (flows.dtype.names or ()):
            rows[field] = flows[field]
    return rows


def hashes(keys: Array, first_ns: Array) -> Array:
    """Return a number for each flow, that hardly any other has."""
    found = first_ns * _MIX[_WORDS]
    for word, factor in zip(_words(keys).T, _MIX, strict=False):
        found ^= found >> _HALF
        found = (found ^ word) * factor
    return np.asarray(found ^ (found >> _HALF), "<u8")


def _words(keys: Array) -> Array:
    return np.ascontiguousarray(opaque(keys)).view("<u8").reshape(len(keys), _WORDS)


def _sorted(rows: Array) -> Array:
    found = opaque(rows).copy().view(TOLD)
    found["hash"] = hashes(found["key"], found["first_ns"])
    return _ordered(found)


def _ordered(rows: Array) -> Array:
    return pick(rows, np.argsort(rows["hash"], kind="stable"))


__all__ = [
    "ELSEWHERE",
    "GONE",
    "SAME",
    "TOLD",
    "TOLD_REFUSED",
    "TOLD_RTT",
    "TOLD_UNANSWERED",
    "Told",
    "as_told",
    "hashes",
]
