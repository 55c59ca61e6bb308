"""How traffic went, step by step: of a VM or of all that is in a scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serai.analysis.filter import Filter
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.source import pair_source, vm_source
from serai.analysis.traffic.statement import Clause, Statement, both
from serai.analysis.traffic.top import in_tenant, mine, touching
from serai.analysis.traffic.window import STEP_SECONDS, Window
from serai.model.tenancy import ROOT, Scope

_KEYS: Final = {"protocol": "protocol", "service": "protocol, service", "verdict": "verdict", "direction": "direction"}
SERIES: Final = 10
"""The largest are told one by one."""


def step_of(window: Window, by: str, steps: int) -> int:
    """Return the length of a step in seconds: about so many fit, and none is finer than what is kept."""
    grain = window.pair_grain if by == "peer" else window.grain
    return max(window.step(steps), STEP_SECONDS[grain])


def trend(of: Clause | None, scopes: Sequence[Scope], by: str, window: Window, narrowed: Filter | None, step: int) -> Statement:
    """Ask for sums of each step.

    Args:
        of: the numbers of a VM; None: all VMs in ``scopes``.
        scopes: where that is, or what is asked for.
        by: ``protocol``, ``service``, ``verdict``, ``direction`` or ``peer``.
        window: when.
        narrowed: which records.
        step: seconds.

    Rows have ``at`` (seconds since 1970), the columns of ``by`` (``name`` of a peer) and ``bytes``, ``packets``, ``connections``.
    """
    if by == "peer":
        return _by_peer(of, scopes, window, narrowed, step)
    keys = _KEYS[by]
    whole = of is None and ROOT in scopes
    if whole and narrowed is None and by in {"protocol", "verdict"}:
        table, where = "protocol_10s", window.widened("10s").clause("t")
    else:
        source = vm_source(window, narrowed)
        table, where = source.table, both(source.where, mine(None if of else scopes), _numbers(of))
    sql = (
        f"SELECT {_AT} AS at, {keys}, {_SUMS} FROM {table} AS r WHERE {where.sql} GROUP BY at, {keys} ORDER BY at, {keys}"  # noqa: S608
    )
    return Statement(sql=sql, parameters={**where.parameters, "step": step})


def _by_peer(of: Clause | None, scopes: Sequence[Scope], window: Window, narrowed: Filter | None, step: int) -> Statement:
    tenants = {scope.tenant for scope in scopes}
    tenant = tenants.pop() if len(tenants) == 1 else None
    source = pair_source(window, narrowed, whole_site=tenant is None)
    group = Group(kind="vm")
    names = group.names(None)
    ends = touching(scopes) if of is None else Clause(sql=f"vm IN {of.sql} OR peer IN {of.sql}", parameters=of.parameters)
    where = both(source.where, in_tenant(tenant), ends)
    other = "vm" if of is None else f"if(vm IN {of.sql}, peer, vm)"
    sql = (
        f"SELECT at, if(other = 0, {group.outside}, b.name) AS name, sum(bytes) AS bytes, sum(packets) AS packets, sum(connections) AS connections FROM"  # noqa: S608
        f" (SELECT {_AT} AS at, {other} AS other, if(other = 0, r.remote, toIPv6('::')) AS remote, {_SUMS} FROM {source.table} AS r WHERE {where.sql} GROUP BY at, other, remote) AS s"
        f" ANY LEFT JOIN {names.sql} AS b ON b.number = s.other GROUP BY at, name ORDER BY at, name"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "step": step})


def _numbers(of: Clause | None) -> Clause:
    return Clause(sql="1") if of is None else Clause(sql=f"vm IN {of.sql}", parameters=of.parameters)


_AT: Final = "intDiv(toUInt32(t), {step:UInt32}) * {step:UInt32}"
_SUMS: Final = "sum(r.bytes_out + r.bytes_in) AS bytes, sum(r.packets_out + r.packets_in) AS packets, sum(r.connections) AS connections"
