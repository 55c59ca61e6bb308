"""Who opens what to whom, in groups: the service map; and all that one VM does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serai.analysis.filter import Filter
from serai.analysis.traffic.group import ADDRESS, Group
from serai.analysis.traffic.source import pair_source
from serai.analysis.traffic.statement import Clause, Statement, both, tenant_of
from serai.analysis.traffic.top import in_tenant, opener_of, target_of, touching
from serai.analysis.traffic.window import Window
from serai.model.tenancy import Scope

_SUMS: Final = "sum(p.bytes_out + p.bytes_in) AS bytes, sum(p.packets_out + p.packets_in) AS packets, sum(p.connections) AS connections"
_AGAIN: Final = "sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections"


def edges(group: Group, window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None, seen: Sequence[Scope] | None, limit: int) -> Statement:
    """Ask for the edges of a map, the largest first.

    Args:
        group: what is one node.
        window: when.
        narrowed: which records.
        scopes: one end of each edge is in these; None: all.
        seen: what whoever asks may see; None: all.
        limit: edges at the most.

    Rows have ``source``, ``target``, ``protocol``, ``service``, ``verdict``, sums, ``edges`` (how many there are) and ``sources``, ``targets``
    (how many VMs were seen on either side).
    """
    tenant = tenant_of(scopes)
    source = pair_source(window, narrowed, whole_site=tenant is None)
    where = both(source.where, in_tenant(tenant), touching(scopes) if scopes and not _all_of_tenant(scopes) else Clause(sql="1"))
    names = group.names(seen)
    keys = "protocol, service, verdict"
    sql = (
        f"SELECT {opener_of(group)} AS source, {target_of(group)} AS target, {keys}, {_AGAIN}, count() OVER () AS edges,"  # noqa: S608
        " uniqExactIf(if(direction = 0, vm, peer), if(direction = 0, vm, peer) != 0) AS sources, uniqExactIf(if(direction = 0, peer, vm), if(direction = 0, peer, vm) != 0) AS targets"
        f" FROM (SELECT vm, peer, {_REMOTE[group.kind == 'vm']} AS remote, direction, {keys}, {_SUMS} FROM {source.table} AS p WHERE {where.sql}"
        f" GROUP BY vm, peer, remote, direction, {keys}) AS s"
        f" ANY LEFT JOIN {names.sql} AS a ON a.number = s.vm ANY LEFT JOIN {names.sql} AS b ON b.number = s.peer"
        f" GROUP BY source, target, {keys} ORDER BY bytes DESC, source, target, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "limit": limit})


_REMOTE: Final = {True: "p.remote", False: "toIPv6('::')"}
"""Addresses of no VM are one node, unless VMs are nodes."""


def _all_of_tenant(scopes: Sequence[Scope]) -> bool:
    """Say whether the tenant's own rows are just what is asked for."""
    return len(scopes) == 1 and len(scopes[0].parts) == 1


def peers(of: Clause, tenant: str, window: Window, seen: Sequence[Scope] | None, limit: int) -> Statement:
    """Ask with whom a VM (``of``: its numbers) spoke, the largest first.

    Rows have ``peer``, ``mine`` (1: the VM opened it), ``protocol``, ``service``, ``verdict``, sums, ``first``, ``last``, and ``rows`` (how many there are).
    """
    source = pair_source(window, None, whole_site=False)
    ends = Clause(sql=f"vm IN {of.sql} OR peer IN {of.sql}", parameters=of.parameters)
    where = both(source.where, in_tenant(tenant), ends)
    names = Group(kind="vm").names(seen)
    keys = "protocol, service, verdict"
    sql = (
        f"SELECT if(other = 0, {ADDRESS}, b.name) AS peer, mine, {keys}, {_AGAIN}, min(s.first) AS first, max(s.last) AS last, count() OVER () AS rows"  # noqa: S608
        f" FROM (SELECT vm IN {of.sql} AS near, if(near, p.peer, p.vm) AS other, if(other = 0, p.remote, toIPv6('::')) AS remote,"
        f" (direction = 0) = near AS mine, {keys}, {_SUMS}, min(p.first) AS first, max(p.last) AS last FROM {source.table} AS p WHERE {where.sql}"
        f" GROUP BY near, other, remote, mine, {keys}) AS s ANY LEFT JOIN {names.sql} AS b ON b.number = s.other"
        f" GROUP BY peer, mine, {keys} ORDER BY bytes DESC, peer, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "limit": limit})
