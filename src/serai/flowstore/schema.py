"""The tables of the flow store: one list, from which the statements for the embedded engine and for a cluster are written.

Raw records stand in order of VM and time, so that one VM's are read together. Rollups are filled by materialized views at each insert; they
are sums that the engine merges. What differs between one machine and a cluster is ``Topology`` and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

from serai.analysis.traffic.rollup import ECHO, kept_service
from serai.model.flow_record import DROP_COLUMNS, FLOW_COLUMNS, SIGHTING_COLUMNS, Column, Kind

DATABASE: Final = "serai"
VERSION: Final = 1
"""Of these tables; kept in the table ``versions``."""

_TIME: Final = "DateTime('UTC') CODEC(Delta, ZSTD(1))"
_NUMBERS: Final = {
    Kind.UINT8: "UInt8",
    Kind.UINT16: "UInt16",
    Kind.UINT32: "UInt32",
    Kind.UINT64: "UInt64",
    Kind.ADDRESS: "IPv6",
}
_SMALL: Final = frozenset(
    {"packets_out", "packets_in", "bytes_out", "bytes_in", "age_ms", "idle_ms", "rtt_us", "packets"}
)
"""Columns whose values use few of their bits: T64 leaves the others out."""
_SUMS: Final = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")
_WINDOW: Final = 10_000
"""Inserts whose tokens are remembered: one that is tried again is not counted twice."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Where the tables are."""

    cluster: str = ""
    """Its name, as ClickHouse's config has it; empty: one machine."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept, in days."""

    raw: int = 7
    minutes: int = 60
    """Rollups of 10 seconds are kept a tenth of that, at least two days."""
    hours: int = 730


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table."""

    name: str
    columns: Mapping[str, str]
    """Types, with their codecs."""
    order: tuple[str, ...]
    engine: str = "MergeTree"
    partition: str = ""
    days: int = 0
    """How long rows are kept; 0: for ever."""
    time: str = "t"
    indices: tuple[str, ...] = ()
    shard: str = "rand()"
    """By what a cluster parts rows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What fills a table at each insert into another."""

    target: str
    source: str
    select: str


def tables(retention: Retention) -> Iterator[Table]:
    """Go through all tables."""
    short = max(2, retention.minutes // 10)
    yield Table(
        name="flows", columns=_stored(FLOW_COLUMNS) | {
            "host": "LowCardinality(String)", "tenant": "LowCardinality(String)", "network": "LowCardinality(String)",
            "vm": "UInt64 CODEC(ZSTD(1))", "peer": "UInt64 CODEC(ZSTD(1))", "abroad": "UInt8 CODEC(ZSTD(1))",
        },
        order=("vm", "at"), partition="toStartOfInterval(at, INTERVAL 6 HOUR)", days=retention.raw, time="at", shard="cityHash64(vm)",
        indices=("INDEX by_at at TYPE minmax GRANULARITY 1", "INDEX by_peer peer TYPE bloom_filter(0.01) GRANULARITY 4"),
    )  # fmt: skip
    yield Table(
        name="drops", columns=_stored(DROP_COLUMNS) | {
            "host": "LowCardinality(String)", "tenant": "LowCardinality(String)", "vm": "UInt64 CODEC(ZSTD(1))",
        },
        order=("vm", "at"), partition="toDate(at)", days=retention.minutes, time="at", shard="cityHash64(vm)",
    )  # fmt: skip
    yield Table(
        name="sightings", columns=_stored(SIGHTING_COLUMNS) | {
            "host": "LowCardinality(String)", "tenant": "LowCardinality(String)", "vm": "UInt64 CODEC(ZSTD(1))",
        },
        order=("vm", "at"), partition="toDate(at)", days=retention.raw, time="at", shard="cityHash64(vm)",
    )  # fmt: skip
    who = {"tenant": "LowCardinality(String)", "vm": "UInt64 CODEC(ZSTD(1))"}
    what = {"protocol": "UInt8", "service": "UInt16", "direction": "UInt8", "verdict": "UInt8"}
    for name, partition, days in (
        ("vm_10s", "toDate(t)", short),
        ("vm_1m", "toDate(t)", retention.minutes),
        ("vm_1h", "toYYYYMM(t)", retention.hours),
    ):
        yield Table(
            name=name, columns={"t": _TIME} | who | what | _sums(), engine="SummingMergeTree", partition=partition, days=days,
            order=("vm", "t", "protocol", "service", "direction", "verdict", "tenant"), shard="cityHash64(vm)",
        )  # fmt: skip
    pair = (
        {"echo": "UInt8", "peer": "UInt64 CODEC(ZSTD(1))", "remote": "IPv6 CODEC(ZSTD(1))"}
        | what
        | {"rule": "UInt64 CODEC(ZSTD(1))"}
    )
    facts = {
        "unanswered": "SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))", "refused": "SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))",
        "first": "SimpleAggregateFunction(min, DateTime('UTC')) CODEC(Delta, ZSTD(1))", "last": "SimpleAggregateFunction(max, DateTime('UTC')) CODEC(Delta, ZSTD(1))",
    }  # fmt: skip
    for name, partition, days in (
        ("pair_1m", "toDate(t)", retention.minutes),
        ("pair_1h", "toYYYYMM(t)", retention.hours),
    ):
        yield Table(
            name=name, columns={"t": _TIME} | who | pair | _sums(merged=True) | facts, engine="AggregatingMergeTree", partition=partition, days=days,
            order=("tenant", "t", "vm", "peer", "remote", "protocol", "service", "direction", "verdict", "rule", "echo"), shard="cityHash64(vm)",
        )  # fmt: skip
    yield Table(
        name="protocol_10s", columns={"t": _TIME, "tenant": "LowCardinality(String)", "protocol": "UInt8", "verdict": "UInt8"} | _sums(),
        engine="SummingMergeTree", order=("t", "tenant", "protocol", "verdict"), partition="toDate(t)", days=retention.minutes,
    )  # fmt: skip
    yield Table(
        name="endpoints", columns={
            "number": "UInt64", "path": "String", "name": "String", "tenant": "String", "scope": "String",
            "labels": "Map(String, String)", "since": "DateTime('UTC')",
        },
        engine="ReplacingMergeTree", order=("number",), shard="cityHash64(number)",
    )  # fmt: skip
    yield Table(
        name="vnics", columns={"vnic": "UInt64", "path": "String"}, engine="ReplacingMergeTree", order=("vnic",)
    )
    yield Table(
        name="rules", columns={"number": "UInt64", "text": "String"}, engine="ReplacingMergeTree", order=("number",)
    )
    yield Table(
        name="batches", columns={
            "host": "LowCardinality(String)", "spool": "String", "number": "UInt64", "since": "DateTime64(3, 'UTC')", "until": "DateTime64(3, 'UTC')",
            "records": "UInt64", "lost_ring": "UInt64", "lost_drops": "UInt64", "lost_forgotten": "UInt64", "lost_spool": "UInt64",
        },
        engine="ReplacingMergeTree", order=("host", "since", "spool", "number"), partition="toDate(since)", days=retention.hours, time="toDateTime(until)",
    )  # fmt: skip
    told = {
        "records": "SimpleAggregateFunction(sum, UInt64)", "lost": "SimpleAggregateFunction(sum, UInt64)",
        "first": "SimpleAggregateFunction(min, DateTime64(3, 'UTC'))", "last": "SimpleAggregateFunction(max, DateTime64(3, 'UTC'))",
    }  # fmt: skip
    yield Table(
        name="coverage_1m", columns={"t": _TIME, "host": "LowCardinality(String)"} | told, engine="AggregatingMergeTree", order=("t", "host"),
        partition="toDate(t)", days=retention.minutes,
    )  # fmt: skip
    yield Table(
        name="coverage_1h", columns={"t": _TIME, "host": "LowCardinality(String)", "minutes": "SimpleAggregateFunction(groupBitOr, UInt64)"} | told,
        engine="AggregatingMergeTree", order=("t", "host"), partition="toYYYYMM(t)", days=retention.hours,
    )  # fmt: skip
    yield Table(
        name="versions",
        columns={"version": "UInt32", "at": "DateTime('UTC')"},
        engine="ReplacingMergeTree",
        order=("version",),
    )


def views() -> Iterator[View]:
    """Go through what fills the rollups."""
    raw = "sum(flows.packets_out) AS packets_out, sum(flows.packets_in) AS packets_in, sum(flows.bytes_out) AS bytes_out, sum(flows.bytes_in) AS bytes_in, sum(flows.connections) AS connections"
    keys = "tenant, vm, protocol, service, direction, verdict"
    service = kept_service("service")
    again = raw.replace("flows.", "s.")
    yield View(
        target="vm_10s", source="flows",
        select=f"SELECT toStartOfInterval(at, INTERVAL 10 SECOND) AS t, tenant, vm, protocol, {service}, direction, verdict, {raw} FROM flows GROUP BY t, {keys}",
    )  # fmt: skip
    for target, source, start in (
        ("vm_1m", "vm_10s", "toStartOfMinute(s.t)"),
        ("vm_1h", "vm_1m", "toStartOfHour(s.t)"),
    ):
        yield View(
            target=target,
            source=source,
            select=f"SELECT {start} AS t, {keys}, {again} FROM {source} AS s GROUP BY t, {keys}",
        )
    pair = "tenant, echo, vm, peer, remote, protocol, service, direction, verdict, rule"
    yield View(
        target="pair_1m", source="flows",
        select=f"SELECT toStartOfMinute(at) AS t, tenant, {ECHO} AS echo, vm, peer, if(peer = 0, flows.remote, toIPv6('::')) AS remote, protocol, {service}, direction, verdict, rule, {raw},"
        f" sum(flows.unanswered) AS unanswered, sum(flows.refused) AS refused, min(at) AS first, max(at) AS last FROM flows WHERE NOT {ECHO} OR abroad GROUP BY t, {pair}",
    )  # fmt: skip
    yield View(
        target="pair_1h", source="pair_1m",
        select=f"SELECT toStartOfHour(s.t) AS t, {pair}, {again}, sum(s.unanswered) AS unanswered, sum(s.refused) AS refused, min(s.first) AS first, max(s.last) AS last"
        f" FROM pair_1m AS s GROUP BY t, {pair}",
    )  # fmt: skip
    yield View(
        target="protocol_10s", source="flows",
        select=f"SELECT toStartOfInterval(at, INTERVAL 10 SECOND) AS t, tenant, protocol, verdict, {raw} FROM flows WHERE NOT {ECHO} GROUP BY t, tenant, protocol, verdict",
    )  # fmt: skip
    yield View(
        target="coverage_1m", source="batches",
        select="SELECT toStartOfMinute(toDateTime(s.until)) AS t, host, sum(s.records) AS records, sum(s.lost_ring + s.lost_forgotten + s.lost_spool) AS lost,"
        " min(s.since) AS first, max(s.until) AS last FROM batches AS s GROUP BY t, host",
    )  # fmt: skip
    yield View(
        target="coverage_1h", source="coverage_1m",
        select="SELECT toStartOfHour(s.t) AS t, host, groupBitOr(bitShiftLeft(toUInt64(1), toMinute(s.t))) AS minutes, sum(s.records) AS records, sum(s.lost) AS lost,"
        " min(s.first) AS first, max(s.last) AS last FROM coverage_1m AS s GROUP BY t, host",
    )  # fmt: skip


def statements(topology: Topology, retention: Retention) -> Iterator[str]:
    """Write the statements that make what is not there, in order; what is there they leave alone, but for how long it is kept."""
    on = f" ON CLUSTER '{topology.cluster}'" if topology.cluster else ""
    local = "_local" if topology.cluster else ""
    yield f"CREATE DATABASE IF NOT EXISTS {DATABASE}{on}"
    for table in tables(retention):
        yield _create(table, topology, on, local)
        if topology.cluster:
            yield (
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{table.name}{on} AS {DATABASE}.{table.name}{local}"
                f" ENGINE = Distributed('{topology.cluster}', '{DATABASE}', '{table.name}{local}', {table.shard})"
            )
        if table.days:
            yield f"ALTER TABLE {DATABASE}.{table.name}{local}{on} MODIFY TTL {table.time} + INTERVAL {table.days} DAY"
    for view in views():
        select = view.select
        for name in {view.source, "flows"}:
            select = select.replace(
                f"FROM {name}", f"FROM {DATABASE}.{name}{local}" + (" AS flows" if name == "flows" else "")
            )
        yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS {DATABASE}.to_{view.target}{on} TO {DATABASE}.{view.target}{local} AS {select}"


def _create(table: Table, topology: Topology, on: str, local: str) -> str:
    columns = ", ".join([*(f"{name} {kind}" for name, kind in table.columns.items()), *table.indices])
    engine = table.engine
    settings = {"ttl_only_drop_parts": "1"}
    if topology.cluster:
        engine = f"Replicated{engine}('/clickhouse/tables/{{shard}}/{DATABASE}/{table.name}', '{{replica}}')"
        settings["replicated_deduplication_window"] = str(_WINDOW)
    else:
        settings["non_replicated_deduplication_window"] = str(_WINDOW)
    parts = [f"CREATE TABLE IF NOT EXISTS {DATABASE}.{table.name}{local}{on} ({columns}) ENGINE = {engine}"]
    if table.partition:
        parts.append(f"PARTITION BY {table.partition}")
    parts.append(f"ORDER BY ({', '.join(table.order)})")
    if table.days:
        parts.append(f"TTL {table.time} + INTERVAL {table.days} DAY")
    parts.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings.items()))
    return " ".join(parts)


def _stored(columns: Mapping[str, Column]) -> dict[str, str]:
    found = {}
    for name, column in columns.items():
        kind = _NUMBERS[column.kind]
        found[name] = _TIME if name == "at" else f"{kind} CODEC({'T64, ' if name in _SMALL else ''}ZSTD(1))"
    return found


def _sums(*, merged: bool = False) -> dict[str, str]:
    kind = "SimpleAggregateFunction(sum, UInt64)" if merged else "UInt64"
    return dict.fromkeys(_SUMS, f"{kind} CODEC(T64, ZSTD(1))")
