"""What became of what stands in a diary: only the last thing may not have been done, and the kernel knows whether it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from serai.datapath.diary import AnyEntry, Denied, Ended, Removed, Taken, denials_of, flows_of
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.maps import Array, comparable
from serai.datapath.told import Told

Tables = Mapping[int, tuple[Array, Array]]
"""Keys and flows of each vNIC's table, as the kernel has them."""

_OWNED: Final = np.dtype([("vnic", "<u8"), ("key", FLOW_KEY), ("flow", FLOW)])


def happened(
    entries: Sequence[AnyEntry], tables: Tables, ended: Array, denials: tuple[Array, Array], vnics: Collection[int]
) -> Iterator[AnyEntry]:
    """Go through what was done, each thing once.

    Args:
        entries: the diary.
        tables: the flow tables that there are.
        ended: the flows that the gate has ended since, and will tell of (``ENDED_EVENT``).
        denials: the records of denials that there are.
        vnics: those that have counters.
    """
    there = _Flows(tables, ended)
    for number, entry in enumerate(entries):
        after = entries[number + 1] if number + 1 < len(entries) else None
        match entry:
            case Ended(done=False) | Removed(done=False) | Denied(done=False):
                if not (type(after) is type(entry) and getattr(after, "done", False)):
                    yield _undone(entry, there, denials, vnics)
            case Taken() if after is None:
                yield _written(entry, there)
            case _:
                yield entry


def same(some: Ended, vnics: Array, keys: Array, flows: Array) -> Array:
    """Which flows stand in an entry, exactly as they are."""
    theirs = _owned(np.frombuffer(some.vnics, "<u8"), *flows_of(some.keys, some.flows))
    return np.isin(comparable(_owned(vnics, keys, flows)), comparable(theirs))


def _undone(
    entry: Ended | Removed | Denied, there: _Flows, denials: tuple[Array, Array], vnics: Collection[int]
) -> AnyEntry:
    """What is left of an entry without that which the kernel has still."""
    match entry:
        case Ended():
            owners = np.frombuffer(entry.vnics, "<u8")
            keys, flows = flows_of(entry.keys, entry.flows)
            out = np.ones(len(keys), "?")
            for vnic in np.unique(owners).tolist():
                mine = owners == vnic
                out[mine] = ~there.has(vnic, keys[mine], flows[mine])
            return msgspec.structs.replace(
                entry, vnics=owners[out].tobytes(), keys=keys[out].tobytes(), flows=flows[out].tobytes()
            )
        case Removed():
            keys, flows = flows_of(entry.keys, entry.flows)
            out = ~there.has(entry.vnic, keys, flows)
            meter = b"" if entry.vnic in vnics else entry.meter
            return msgspec.structs.replace(entry, keys=keys[out].tobytes(), flows=flows[out].tobytes(), meter=meter)
        case Denied():
            keys, values = denials_of(entry.keys, entry.values)
            known, counts = denials
            counted = dict(zip(comparable(known).tolist(), counts["packets"].tolist(), strict=True))
            out = np.array(
                [counted.get(key, -1) < packets for key, packets in zip(comparable(keys).tolist(), values["packets"].tolist(), strict=True)],
                "?",
            )  # fmt: skip
            return msgspec.structs.replace(entry, keys=keys[out].tobytes(), values=values[out].tobytes())


def _written(entry: Taken, there: _Flows) -> Taken:
    """What the kernel has of flows that were about to be written."""
    keys, flows = flows_of(entry.keys, entry.flows)
    old_keys, old_flows = flows_of(entry.old_keys, entry.old_flows)
    written = there.has(entry.vnic, keys, flows)
    replaced = np.isin(comparable(old_keys), comparable(keys[written]))
    return msgspec.structs.replace(
        entry, keys=keys[written].tobytes(), flows=flows[written].tobytes(), old_keys=old_keys[replaced].tobytes(),
        old_flows=old_flows[replaced].tobytes(),
    )  # fmt: skip


class _Flows:
    """The flows that the kernel has, in tables or on their way out."""

    def __init__(self, tables: Tables, ended: Array) -> None:
        self._tables = tables
        self._ended = ended

    def has(self, vnic: int, keys: Array, flows: Array) -> Array:
        """Which of these there are, by key and beginning."""
        gone = self._ended[self._ended["vnic"] == vnic]
        there = np.zeros(len(keys), "?")
        for known in (self._tables.get(vnic), (gone["key"], gone["flow"])):
            if known is not None:
                there |= Told.of(*known).find(keys, flows["first_ns"]) >= 0
        return there


def _owned(vnics: Array, keys: Array, flows: Array) -> Array:
    rows = np.zeros(len(keys), _OWNED)
    rows["vnic"], rows["key"], rows["flow"] = vnics, keys, flows
    return rows
