"""From batches of agents to rows of the flow store: who the numbers and addresses were, by the inventory of that time."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serai.analysis.columns import addresses, numbers
from serai.analysis.register import Found, Register
from serai.model.flow_record import BATCH_RECORDS, DROP_COLUMNS, FLOW_COLUMNS, SIGHTING_COLUMNS
from serai.model.inventory import VirtualMachine
from serai.model.policy import RuleRef
from serai.wire.records import RecordsError, decode
from serai.wire.remote import Losses, Records

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one table of one batch when it is unpacked: many times what it can be."""
_PAST: Final = 32
"""Registers of earlier times that are kept for batches that come late."""

Array = NDArray[Any]


class Registers:
    """Who was who, now and a while ago."""

    def __init__(self, vms: Mapping[str, VirtualMachine]) -> None:
        """Begin with these VMs."""
        self._all: collections.deque[tuple[float, Register]] = collections.deque([(0.0, Register.of(vms))], _PAST)

    def change(
        self, now: float, vms: Mapping[str, VirtualMachine], changes: Mapping[str, VirtualMachine | None]
    ) -> None:
        """Know that from ``now`` on (seconds since 1970) these are the VMs, and which of them are otherwise."""
        if changes:
            self._all.append((now, self._all[-1][1].changed(vms, changes)))

    def at(self, moment: float) -> Register:
        """Return who was who then; of what is long past, the earliest that is known."""
        return next((register for since, register in reversed(self._all) if since <= moment), self._all[0][1])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one host has told at once."""

    host: str
    records: Records


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Rows for the flow store."""

    tables: Mapping[str, pa.Table]
    numbers: Mapping[str, frozenset[int]]
    """By table of names, those that are told here for the first time."""
    faults: Sequence[str]
    """What could not be read, in sentences."""


def named(batches: Sequence[Batch], registers: Registers, known: Mapping[str, set[int]]) -> Named:
    """Name what some batches tell. What cannot be read counts as lost; its batch is taken all the same, for it would never be better."""
    faults: list[str] = []
    marks: list[dict[str, object]] = []
    found: dict[str, list[pa.Table]] = {"flows": [], "drops": [], "sightings": []}
    rules: dict[int, str] = {}
    seen: list[tuple[Register, Array, Array, Array]] = []
    for batch in batches:
        told = batch.records
        register = registers.at(told.until)
        try:
            flows = decode(told.flows, FLOW_COLUMNS, most_rows=BATCH_RECORDS, most_bytes=_MOST_BYTES)
            beside = {
                name: decode(raw, columns, most_rows=BATCH_RECORDS, most_bytes=_MOST_BYTES)
                for name, raw, columns in (
                    ("drops", told.drops, DROP_COLUMNS),
                    ("sightings", told.sightings, SIGHTING_COLUMNS),
                )
            }
        except RecordsError as error:
            faults.append(f"batch {told.number} of host {batch.host} cannot be read: {error}")
            marks.append(_mark(batch, 0, _unread(told, told.records)))
            continue
        marks.append(_mark(batch, flows.num_rows, told.lost))
        rules |= {RuleRef(text).id: text for text in told.rules if RuleRef(text).id not in known["rules"]}
        if flows.num_rows:
            who = register.find(numbers(flows, "vnic"), addresses(flows, "remote"))
            found["flows"].append(_with_names(flows, batch.host, who, whole=True))
            seen.append((register, numbers(flows, "vnic"), who.vm, who.peer))
        for name, table in beside.items():
            if table.num_rows:
                who = register.find(numbers(table, "vnic"), np.zeros((table.num_rows, 16), "u1"))
                found[name].append(_with_names(table, batch.host, who, whole=False))
                seen.append((register, numbers(table, "vnic"), who.vm, who.peer))
    tables = {
        name: pa.concat_tables(parts).unify_dictionaries().combine_chunks() for name, parts in found.items() if parts
    }
    names = _names(seen, known, since=min((batch.records.until for batch in batches), default=0.0))
    if rules:
        names["rules"] = pa.table({"number": pa.array(list(rules), pa.uint64()), "text": list(rules.values())})
    tables["batches"] = pa.Table.from_pylist(marks, schema=_BATCHES)
    fresh = {name: frozenset(table.column(0).to_pylist()) for name, table in names.items()}
    return Named(tables=tables | names, numbers=fresh, faults=faults)


def _unread(told: Records, records: int) -> Losses:
    """Return what a batch says is lost, and its own records with it."""
    lost = told.lost
    return Losses(ring=lost.ring, drops=lost.drops, forgotten=lost.forgotten + records, spool=lost.spool)


def _with_names(table: pa.Table, host: str, who: Found, *, whole: bool) -> pa.Table:
    count = table.num_rows
    texts = {
        "host": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, "<i4")), [host]),
        "tenant": pa.DictionaryArray.from_arrays(pa.array(who.tenant), who.tenants),
    }
    if whole:
        texts["network"] = pa.DictionaryArray.from_arrays(pa.array(who.network), who.networks)
    for name, column in texts.items():
        table = table.append_column(name, column)
    table = table.append_column("vm", pa.array(who.vm))
    if whole:
        table = table.append_column("peer", pa.array(who.peer)).append_column(
            "abroad", pa.array(who.abroad.astype("u1"))
        )
    return table


def _names(
    seen: Iterable[tuple[Register, Array, Array, Array]], known: Mapping[str, set[int]], since: float
) -> dict[str, pa.Table]:
    """Return the rows of ``endpoints`` and ``vnics`` that are not there yet."""
    endpoints: dict[int, dict[str, object]] = {}
    vnics: dict[int, str] = {}
    for register, cards, vms, peers in seen:
        fresh = set(np.unique(np.concatenate([vms, peers])).tolist()) - known["endpoints"] - endpoints.keys()
        for each in register.describe(fresh):
            endpoints[each.number] = {
                "number": each.number, "path": each.path, "name": each.name, "tenant": each.tenant, "scope": str(each.scope),
                "labels": list(each.labels.items()), "since": int(since),
            }  # fmt: skip
        unseen = np.setdiff1d(cards, np.fromiter(known["vnics"], "<u8", len(known["vnics"])))
        for number in np.unique(vms[np.isin(cards, unseen)]).tolist() if len(unseen) else ():
            for endpoint in register.describe([number]):
                vnics |= {
                    card: path for card, path in register.cards(endpoint.path).items() if card not in known["vnics"]
                }
    found = {}
    if endpoints:
        found["endpoints"] = pa.Table.from_pylist(list(endpoints.values()), schema=_ENDPOINTS)
    if vnics:
        found["vnics"] = pa.table({"vnic": pa.array(list(vnics), pa.uint64()), "path": list(vnics.values())})
    return found


def _mark(batch: Batch, rows: int, lost: Losses) -> dict[str, object]:
    told = batch.records
    return {
        "host": batch.host, "spool": told.spool, "number": told.number, "since": round(told.since * 1000), "until": round(told.until * 1000),
        "records": rows, "lost_ring": lost.ring, "lost_drops": lost.drops, "lost_forgotten": lost.forgotten, "lost_spool": lost.spool,
    }  # fmt: skip


_ENDPOINTS: Final = pa.schema(
    {
        "number": pa.uint64(), "path": pa.string(), "name": pa.string(), "tenant": pa.string(), "scope": pa.string(),
        "labels": pa.map_(pa.string(), pa.string()), "since": pa.uint32(),
    }
)  # fmt: skip
_BATCHES: Final = pa.schema(
    {
        "host": pa.string(), "spool": pa.string(), "number": pa.uint64(), "since": pa.timestamp("ms", "UTC"), "until": pa.timestamp("ms", "UTC"), "records": pa.uint64(),
        "lost_ring": pa.uint64(), "lost_drops": pa.uint64(), "lost_forgotten": pa.uint64(), "lost_spool": pa.uint64(),
    }
)  # fmt: skip
