"""Loads rulesets into the kernel: add what is new, let the vNICs switch, remove what is old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from serai.datapath.layout import MAPS
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map, comparable
from serai.model.ruleset import TABLES, HostRuleset

# What is pointed at comes before what points at it.
_ORDER: Final = ("pages", "lists", "prefixes", "endpoints")


def join(keys: Array, values: Array) -> Array:
    """Join a map's keys and values to records, as comparable bytes (keys are the leading fields of every record)."""
    joined = np.zeros(len(keys), [("key", keys.dtype), ("value", values.dtype)])
    joined["key"], joined["value"] = keys, values
    return comparable(joined)


def part(name: str, raw: Array) -> tuple[Array, Array]:
    """Part records, as comparable bytes, into the keys and values of the map ``name``."""
    key, value = MAPS[name]
    flat = np.frombuffer(raw.tobytes(), "u1").reshape(len(raw), TABLES[name].itemsize)
    keys, values = flat[:, : key.itemsize], flat[:, key.itemsize :]
    return (
        np.frombuffer(keys.tobytes(), key),
        np.frombuffer(values.tobytes(), value),
    )


def _keys_of(name: str, raw: Array) -> Array:
    keys, _ = part(name, raw)
    return comparable(keys)


class Tables:
    """The four tables of rulesets, and what the kernel holds of them."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        """Use the gate's maps; nothing is read before the first change."""
        self._maps = maps
        self._present: dict[str, Array] = {}

    def add(self, ruleset: HostRuleset) -> None:
        """Write what the kernel lacks. No packet is judged differently by rulesets in force until now.

        Raises:
            KernelError: a map is full; everything is then as it was before.
        """
        done: list[tuple[str, Array]] = []
        try:
            for name in _ORDER:
                fresh = np.setdiff1d(comparable(ruleset.tables[name]), self._held(name))
                done.append((name, fresh))
                self._maps[name].update(*part(name, fresh))
        except KernelError:
            for name, fresh in reversed(done):
                self._undo(name, fresh)
            raise
        for name, fresh in done:
            held = self._held(name)
            kept = held[~np.isin(_keys_of(name, held), _keys_of(name, fresh))]
            self._present[name] = np.union1d(kept, fresh)
        self._remove_vanished(ruleset)

    def remove_others(self, ruleset: HostRuleset) -> int:
        """Remove what ``ruleset`` does not need, once no vNIC points at it; return how many records."""
        removed = 0
        for name in reversed(_ORDER):
            stale = np.setdiff1d(self._held(name), comparable(ruleset.tables[name]))
            self._maps[name].delete(part(name, stale)[0])
            self._present[name] = np.setdiff1d(self._held(name), stale)
            removed += len(stale)
        return removed

    def _remove_vanished(self, ruleset: HostRuleset) -> None:
        """Remove endpoints that are gone from views that stay.

        Like endpoints that changed, and before gates switch: flows are judged again only once, then.
        """
        wanted = ruleset.tables["endpoints"]
        held = self._held("endpoints")
        records = np.frombuffer(held.tobytes(), TABLES["endpoints"])
        gone = np.isin(records["view"], wanted["view"]) & ~np.isin(held, comparable(wanted))
        self._maps["endpoints"].delete(part("endpoints", held[gone])[0])
        self._present["endpoints"] = held[~gone]

    def _undo(self, name: str, fresh: Array) -> None:
        held = self._held(name)
        added, before = _keys_of(name, fresh), _keys_of(name, held)
        self._maps[name].delete(part(name, fresh[~np.isin(added, before)])[0])
        self._maps[name].update(*part(name, held[np.isin(before, added)]))

    def _held(self, name: str) -> Array:
        if name not in self._present:
            self._present[name] = np.unique(join(*self._maps[name].dump()))
        return self._present[name]
