"""Where a question looks: a rollup where that keeps all that is asked for, else the raw records, in the same columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from serai.analysis.filter import Clause as Narrowed
from serai.analysis.filter import Filter, NotKeptError, clause
from serai.analysis.traffic.statement import EVERYTHING, Clause, both
from serai.analysis.traffic.window import Window

SUMS: Final = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")
VM_COLUMNS: Final = frozenset({"t", "tenant", "vm", "protocol", "service", "direction", "verdict", *SUMS})
PAIR_COLUMNS: Final = VM_COLUMNS | {"echo", "peer", "remote", "rule", "unanswered", "refused", "first", "last"}
NARROWS_VM: Final = frozenset({"tenant", "vm", "protocol", "service", "direction", "verdict"})
"""By what rollups of VMs can be narrowed; sums cannot tell which records were large."""
NARROWS_PAIR: Final = NARROWS_VM | {"peer", "rule"}

_ECHO: Final = "(direction = 1 AND peer != 0 AND verdict = 0)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What stands behind FROM, with a condition for its rows."""

    table: str
    where: Clause
    window: Window
    """The steps that it really covers."""


def vm_source(window: Window, narrowed: Filter | None, grain: str | None = None) -> Source:
    """Look by VM: a conversation of two VMs is there twice, once for each."""
    return _source(f"vm_{grain or window.grain}", NARROWS_VM, window, grain or window.grain, narrowed, _raw_vm)


def pair_source(window: Window, narrowed: Filter | None, *, whole_site: bool) -> Source:
    """Look by pair: a conversation is there once. ``whole_site``: not for one tenant's own eyes."""
    grain = window.pair_grain
    found = _source(f"pair_{grain}", NARROWS_PAIR, window, grain, narrowed, _raw_pair)
    return dataclasses.replace(found, where=both(found.where, Clause(sql="echo = 0"))) if whole_site else found


def _source(
    table: str, narrows: frozenset[str], window: Window, grain: str, narrowed: Filter | None, raw: Callable[[Clause], str]
) -> Source:
    try:
        narrow = _clause(narrowed, narrows)
    except NotKeptError:
        rows = both(window.told("at"), _clause(narrowed, None))
        return Source(table=raw(rows), where=Clause(sql=EVERYTHING.sql, parameters=rows.parameters), window=window)
    whole = window.widened(grain)
    return Source(table=table, where=both(whole.clause("t"), narrow), window=whole)


def _clause(narrowed: Filter | None, columns: frozenset[str] | None) -> Clause:
    if narrowed is None:
        return EVERYTHING
    found: Narrowed = clause(narrowed) if columns is None else clause(narrowed, columns=columns)
    return Clause(sql=found.sql, parameters=found.parameters)


def raw_source(window: Window, narrowed: Filter | None) -> Source:
    """Look at the raw records themselves, as they are."""
    return Source(table="flows", where=both(window.told("at"), _clause(narrowed, None)), window=window)


def _raw_vm(rows: Clause) -> str:
    return (
        f"(SELECT toStartOfInterval(at, INTERVAL 10 SECOND) AS t, tenant, vm, protocol, service, direction, verdict, {', '.join(SUMS)}"  # noqa: S608
        f" FROM (SELECT * FROM flows WHERE {rows.sql}))"
    )


def _raw_pair(rows: Clause) -> str:
    return (
        f"(SELECT toStartOfInterval(at, INTERVAL 10 SECOND) AS t, tenant, {_ECHO} AS echo, vm, peer, if(peer = 0, r.remote, toIPv6('::')) AS remote, protocol, service,"  # noqa: S608
        f" direction, verdict, rule, {', '.join(SUMS)}, unanswered, refused, at AS first, at AS last"
        f" FROM (SELECT * FROM flows WHERE (NOT {_ECHO} OR abroad) AND {rows.sql}) AS r)"
    )
