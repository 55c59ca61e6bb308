"""What gates saw of the messages that make a link work: how many of each kind, and the address that the last was about."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from serai.datapath.maps import Array, Map
from serai.model.inventory import VnicId

COUNTS: Final = np.dtype(
    [
        ("vnic", "<u8"),
        ("kind", "u1"),
        ("direction", "u1"),
        ("packets", "<u8"),
        ("last_ns", "<u8"),
        ("address", "V16"),
    ]
)
"""One row of ``Sightings.counts``: ``kind`` is a ``Sighting``, ``packets`` all since the vNIC came to this host, ``last_ns``
CLOCK_MONOTONIC as of the last tick, ``address`` in the mapped form (``::`` where the message is about none)."""


class Sightings:
    """The gate's map of sightings. What stands there only grows, until it is forgotten."""

    def __init__(self, sightings: Map) -> None:
        """Use the gate's map."""
        self._map = sightings

    def counts(self) -> Array:
        """Return all that is counted, as an array of ``COUNTS`` in no order."""
        keys, values = self._map.dump()
        found = np.zeros(len(keys), COUNTS)
        for field in ("vnic", "kind", "direction"):
            found[field] = keys[field]
        for field in ("packets", "last_ns"):
            found[field] = values[field]
        found["address"] = np.ascontiguousarray(values["address"]).view("V16").reshape(-1)
        return found

    def forget(self, vnics: Collection[VnicId]) -> None:
        """Let go of what was counted for these vNICs, which are no longer here."""
        if vnics:
            keys, _ = self._map.dump()
            self._map.delete(keys[np.isin(keys["vnic"], np.array(list(vnics), "<u8"))])


__all__ = ["COUNTS", "Sightings"]
