"""Loads rulesets into the kernel: add what is new, let the vNICs switch, remove what is old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from serai.datapath.layout import MAPS
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map
from serai.model.ruleset import TABLES, HostRuleset, Records

# What is pointed at comes before what points at it.
_ORDER: Final = ("pages", "lists", "prefixes", "endpoints")


def _raw(records: Records) -> Array:
    """The records as comparable bytes; numpy pads S with zeros, which is exact at equal width."""
    return np.ascontiguousarray(records).view(f"S{records.dtype.itemsize}")


def _parts(name: str, raw: Array) -> tuple[Array, Array]:
    """Part records into the map's keys and values (keys are the leading fields of every record)."""
    key, value = MAPS[name]
    flat = np.frombuffer(raw.tobytes(), "u1").reshape(len(raw), TABLES[name].itemsize)
    keys, values = flat[:, : key.itemsize], flat[:, key.itemsize :]
    return (
        np.frombuffer(keys.tobytes(), key),
        np.frombuffer(values.tobytes(), value),
    )


def _keys_of(name: str, raw: Array) -> Array:
    keys, _ = _parts(name, raw)
    return _raw(keys)


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
                fresh = np.setdiff1d(_raw(ruleset.tables[name]), self._held(name))
                done.append((name, fresh))
                self._maps[name].update(*_parts(name, fresh))
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
            stale = np.setdiff1d(self._held(name), _raw(ruleset.tables[name]))
            self._maps[name].delete(_parts(name, stale)[0])
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
        gone = np.isin(records["view"], wanted["view"]) & ~np.isin(held, _raw(wanted))
        self._maps["endpoints"].delete(_parts("endpoints", held[gone])[0])
        self._present["endpoints"] = held[~gone]

    def _undo(self, name: str, fresh: Array) -> None:
        held = self._held(name)
        added, before = _keys_of(name, fresh), _keys_of(name, held)
        self._maps[name].delete(_parts(name, fresh[~np.isin(added, before)])[0])
        self._maps[name].update(*_parts(name, held[np.isin(before, added)]))

    def _held(self, name: str) -> Array:
        if name not in self._present:
            keys, values = self._maps[name].dump()
            record = np.dtype([("key", keys.dtype), ("value", values.dtype)])
            joined = np.zeros(len(keys), record)
            joined["key"], joined["value"] = keys, values
            self._present[name] = np.unique(joined.view(f"S{record.itemsize}"))
        return self._present[name]
