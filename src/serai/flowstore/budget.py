"""Keeps the flow store within its room on disk: what is oldest and finest goes first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from serai.flowstore.schema import DATABASE
from serai.flowstore.store import FlowStore

_FIRST: Final = (
    "flows",
    "sightings",
    "drops",
    "vm_10s",
    "pair_1m",
    "protocol_10s",
    "vm_1m",
    "coverage_1m",
    "pair_1h",
    "vm_1h",
    "batches",
    "coverage_1h",
)
"""In what order tables give way, while they have a partition that is over."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A partition of a table."""

    table: str
    id: str
    bytes: int
    newest: int
    """When its last rows were written, seconds since 1970."""


def chosen(parts: Sequence[Part], most_bytes: int) -> list[Part]:
    """Say which partitions must go. The newest of each table stays, whatever it takes: it is being written."""
    over = sum(part.bytes for part in parts) - most_bytes
    gone: list[Part] = []
    for table in _FIRST:
        mine = sorted((part for part in parts if part.table == table), key=lambda part: (part.newest, part.id))
        for part in mine[:-1]:
            if over <= 0:
                return gone
            gone.append(part)
            over -= part.bytes
    return gone


async def parts_of(store: FlowStore) -> list[Part]:
    """Look what the tables take.

    Raises:
        EngineError: the engine does not answer.
    """
    sql = (
        "SELECT table, partition_id AS id, sum(bytes_on_disk) AS bytes, toUInt32(max(modification_time)) AS newest FROM system.parts"
        " WHERE database = {database:String} AND active GROUP BY table, id"
    )
    local = "_local" if store.topology.cluster else ""
    rows = (await store.ask(sql, {"database": DATABASE})).to_pylist()
    return [
        Part(table=row["table"].removesuffix(local), id=row["id"], bytes=row["bytes"], newest=row["newest"])
        for row in rows
    ]


async def keep_within(store: FlowStore, most_bytes: int) -> list[Part]:
    """Remove what must go, and return it.

    Raises:
        EngineError: the engine does not answer.
    """
    gone = chosen(await parts_of(store), most_bytes)
    local = "_local" if store.topology.cluster else ""
    for part in gone:
        await store.command(
            f"ALTER TABLE {DATABASE}.{part.table}{local} DROP PARTITION ID {{id:String}}", {"id": part.id}
        )
    return gone
