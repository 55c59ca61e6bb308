"""What was told of counters that only grow, by key: denials, drops by reason, sightings."""

from __future__ import annotations

from typing import Final

import numpy as np

from serai.datapath.layout import METER, Layout
from serai.datapath.maps import Array, comparable

METERED: Final = np.dtype([("vnic", "<u8")])
SIGHTED: Final = np.dtype([("vnic", "<u8"), ("kind", "u1"), ("direction", "u1")])
REASONS: Final = METER["drops"].shape[1]
LOST: Final = ("lost_denials", "lost_ends")
"""What a vNIC's counters say was lost: packets without a record, and ends of flows that the ring had no room for."""


class Tally:
    """The counters of each key as they were when they were last told."""

    def __init__(self, key: Layout, counters: int) -> None:
        """Know nothing yet; each key has so many counters."""
        self.key = key
        self.row = np.dtype([("key", key), ("counts", "<u8", (counters,))])
        """How what was told is written down."""
        self.keys: Array = np.empty(0, key)
        """Those that are known, in the order of their bytes; never changed in place, as ``counts``."""
        self.counts: Array = np.empty((0, counters), "<u8")

    def read(self, keys: Array, counts: Array) -> Array:
        """Return what is new of each key's counters, of which these are all there are; a key that is not here is forgotten."""
        new = self._new(keys, counts)
        self.restore(keys, counts)
        return new

    def last(self, keys: Array, counts: Array) -> Array:
        """Return what is new of counters that are gone now, and forget them."""
        new = self._new(keys, counts)
        kept = ~np.isin(comparable(self.keys), comparable(keys))
        self.keys, self.counts = self.keys[kept], self.counts[kept]
        return new

    def restore(self, keys: Array, counts: Array) -> None:
        """Know that these have been told."""
        order = np.argsort(comparable(keys))
        self.keys, self.counts = np.ascontiguousarray(keys)[order], counts[order]

    def _new(self, keys: Array, counts: Array) -> Array:
        """A counter that is less than it was has begun anew."""
        before = np.zeros_like(counts)
        if len(self.keys):
            known, wanted = comparable(self.keys), comparable(keys)
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            same = known[at] == wanted
            before[same] = self.counts[at[same]]
        before[(counts < before).any(axis=1)] = 0
        return counts - before


def denial_counts(values: Array) -> Array:
    """Packets and bytes of records of denials."""
    return np.stack([values["packets"], values["bytes"]], axis=1).astype("<u8").reshape(-1, 2)


def meter_counts(vnics: Array, meters: Array) -> tuple[Array, Array]:
    """Keys, and drops by direction and reason, and what was lost (``LOST``), of vNICs."""
    keys = np.zeros(len(vnics), METERED)
    keys["vnic"] = vnics
    counts = np.concatenate(
        [meters["drops"].reshape(-1, 2 * REASONS), *(meters[name].reshape(-1, 1) for name in LOST)], axis=1
    )
    return keys, np.asarray(counts, "<u8")


def sighting_counts(seen: Array) -> tuple[Array, Array]:
    """Keys, and packets, of what was seen."""
    keys = np.zeros(len(seen), SIGHTED)
    for field in ("vnic", "kind", "direction"):
        keys[field] = seen[field]
    return keys, np.asarray(seen["packets"], "<u8").reshape(-1, 1)
