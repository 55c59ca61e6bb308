"""How traffic went, step by step: of a VM or of all that is in a scope."""

from __future__ import annotations

import dataclasses
from typing import Final

from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.source import Source, pair_source, vm_source
from serai.analysis.traffic.statement import Clause, Statement, both
from serai.analysis.traffic.window import STEP_SECONDS, Window

_KEYS: Final = {"protocol": "protocol", "service": "protocol, service", "verdict": "verdict", "direction": "direction"}
SERIES: Final = 10
"""The largest are told one by one."""


def step_of(window: Window, by: str, steps: int) -> int:
    """Return the length of a step in seconds: about so many fit, and none is finer than what is kept."""
    grain = window.pair_grain if by == "peer" else window.grain
    return max(window.step(steps), STEP_SECONDS[grain])


def trend(of: Clause | None, by: str, asked: Asked, step: int) -> Statement:
    """Ask for sums of each step.

    Args:
        of: the numbers of a VM, to stand behind IN; None: of all VMs in the scopes that are asked about.
        by: ``protocol``, ``service``, ``verdict``, ``direction`` or ``peer``.
        asked: when, and which records.
        step: seconds.

    Rows have ``at`` (seconds since 1970), the columns of ``by`` (``name`` of a peer) and ``bytes``, ``packets``, ``connections``.
    """
    if by == "peer":
        return _by_peer(of, asked, step)
    keys = _KEYS[by]
    if of is None and asked.scopes is None and asked.narrowed is None and by in {"protocol", "verdict"}:
        source = Source(table="protocol_10s", where=asked.window.widened("10s").clause("t"))
    else:
        source = vm_source(asked)
        whose = asked.mine() if of is None else Clause(sql=f"vm IN {of.sql}", parameters=of.parameters)
        source = dataclasses.replace(source, where=both(source.where, whose))
    sql = f"SELECT {_AT} AS at, {keys}, {_SUMS} FROM {source.table} AS r WHERE {source.where.sql} GROUP BY at, {keys} ORDER BY at, {keys}"
    return Statement(sql=sql, parameters={**source.where.parameters, "step": step}, table=source.single)


def _by_peer(of: Clause | None, asked: Asked, step: int) -> Statement:
    source, group = pair_source(asked), Group(kind="vm")
    names = group.names(asked.seen)
    where = source.where
    if of is not None:
        where = both(where, Clause(sql=f"vm IN {of.sql} OR peer IN {of.sql}", parameters=of.parameters))
    other = "peer" if of is None else f"if(vm IN {of.sql}, peer, vm)"
    sql = (
        f"SELECT at, if(other = 0, {group.outside}, b.name) AS name, sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections FROM"
        f" (SELECT {_AT} AS at, {other} AS other, if(other = 0, r.remote, toIPv6('::')) AS remote, {_SUMS} FROM {source.table} AS r WHERE {where.sql} GROUP BY at, other, remote) AS s"
        f" ANY LEFT JOIN {names.sql} AS b ON b.number = s.other GROUP BY at, name ORDER BY at, name"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "step": step}, table=source.single)


_AT: Final = "intDiv(toUInt32(t), {step:UInt32}) * {step:UInt32}"
_SUMS: Final = "sum(r.bytes_out + r.bytes_in) AS bytes, sum(r.packets_out + r.packets_in) AS packets, sum(r.connections) AS connections"
