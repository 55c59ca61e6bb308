"""Counts what a gate lets pass while it is not its turn, by what is otherwise about the flows of its vNIC than it should be."""

from __future__ import annotations

import numpy as np

from serai.datapath.handoff import Flows
from serai.datapath.maps import Array, comparable


class Passed:
    """One vNIC's flows: how many packets each is known to have carried."""

    def __init__(self, keys: Array, flows: Array) -> None:
        """Know these."""
        self._keys, self._packets = _sorted(keys, flows)

    def know(self, keys: Array, flows: Array) -> None:
        """Know flows of another host: what they have carried was not let pass here."""
        fresh, packets = _sorted(keys, flows)
        places = np.searchsorted(self._keys, fresh)
        there = np.zeros(len(fresh), "?")
        inside = places < len(self._keys)
        there[inside] = self._keys[places[inside]] == fresh[inside]
        known = places[there]
        self._packets[known] = np.maximum(self._packets[known], packets[there])
        beside = ~there
        self._keys = np.insert(self._keys, places[beside], fresh[beside])
        self._packets = np.insert(self._packets, places[beside], packets[beside])

    def since(self, flows: Flows) -> int:
        """Return how many packets these flows have carried beyond what is known of them; known from now on."""
        found, packets = _sorted(*flows)
        before = np.zeros(len(found), "u8")
        if len(self._keys):
            places = np.minimum(np.searchsorted(self._keys, found), len(self._keys) - 1)
            before = np.where(self._keys[places] == found, self._packets[places], 0)
        # Fewer than before: its ports have begun another connection.
        more = np.where(packets >= before, packets - before, packets).sum()
        self._keys, self._packets = found, packets
        return int(more)


def _sorted(keys: Array, flows: Array) -> tuple[Array, Array]:
    raw = comparable(keys)
    order = np.argsort(raw)
    return raw[order], flows["packets"].sum(axis=1)[order]
