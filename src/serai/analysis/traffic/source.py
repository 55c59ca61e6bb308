"""Where a question looks: a rollup where that keeps all that is asked for, else the raw records, in the same columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from serai.analysis.filter import PAIR_COLUMNS, VM_COLUMNS, Filter, NotKeptError, clause
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.rollup import ECHO, kept_service
from serai.analysis.traffic.statement import EVERYTHING, Clause, both

SUMS: Final = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What stands behind FROM, with a condition for its rows."""

    table: str
    where: Clause
    single: str = ""
    """The table of the single rows that it looks at; empty: it looks at sums."""


def vm_source(asked: Asked) -> Source:
    """Look by VM: a conversation of two VMs is there twice, once for each."""
    grain = asked.window.grain
    return _source(f"vm_{grain}", VM_COLUMNS, asked, grain, _raw_vm)


def pair_source(asked: Asked) -> Source:
    """Look by pair: a conversation is there once, by what the part of it that is asked about tells."""
    grain = asked.window.pair_grain
    found = _source(f"pair_{grain}", PAIR_COLUMNS, asked, grain, _raw_pair)
    own = asked.of_tenant() if asked.tenant is not None else Clause(sql="echo = 0")
    return dataclasses.replace(found, where=both(found.where, own, asked.touching()))


def raw_source(asked: Asked) -> Source:
    """Look at the raw records themselves, as they are."""
    where = both(asked.window.told("at"), _clause(asked.narrowed, None), asked.mine())
    return Source(table="flows", where=where, single="flows")


def _source(table: str, columns: frozenset[str], asked: Asked, grain: str, raw: Callable[[Clause], str]) -> Source:
    try:
        narrow = _clause(asked.narrowed, columns)
    except NotKeptError:
        rows = both(asked.window.told("at"), _clause(asked.narrowed, None))
        return Source(table=raw(rows), where=Clause(sql=EVERYTHING.sql, parameters=rows.parameters), single="flows")
    return Source(table=table, where=both(asked.window.widened(grain).clause("t"), narrow))


def _clause(narrowed: Filter | None, columns: frozenset[str] | None) -> Clause:
    return EVERYTHING if narrowed is None else clause(narrowed, columns)


def _raw_vm(rows: Clause) -> str:
    return (
        f"(SELECT {_BEGIN}, tenant, vm, protocol, {_SERVICE}, direction, verdict, {', '.join(SUMS)}"
        f" FROM (SELECT * FROM flows WHERE {rows.sql}) AS f)"
    )


def _raw_pair(rows: Clause) -> str:
    return (
        f"(SELECT {_BEGIN}, tenant, {ECHO} AS echo, vm, peer, if(peer = 0, f.remote, toIPv6('::')) AS remote, protocol, {_SERVICE}, direction, verdict, rule,"
        f" {', '.join(SUMS)}, unanswered, refused, at AS first, at AS last FROM (SELECT * FROM flows WHERE (NOT {ECHO} OR abroad) AND {rows.sql}) AS f)"
    )


_BEGIN: Final = "toStartOfInterval(at, INTERVAL 10 SECOND) AS t"
_SERVICE: Final = kept_service("f.service")
"""As in rollups: one question has one answer, wherever it is looked up."""
