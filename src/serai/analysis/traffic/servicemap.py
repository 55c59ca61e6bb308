"""Who opens what to whom, in groups: the service map; and all that one VM does."""

from __future__ import annotations

from typing import Final

from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import ADDRESS, Group
from serai.analysis.traffic.source import pair_source
from serai.analysis.traffic.statement import Clause, Statement, both
from serai.analysis.traffic.top import opener_of, target_of

_SUMS: Final = "sum(p.bytes_out + p.bytes_in) AS bytes, sum(p.packets_out + p.packets_in) AS packets, sum(p.connections) AS connections"
_AGAIN: Final = "sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections"


def edges(group: Group, asked: Asked) -> Statement:
    """Ask for the edges of a map, the largest first; ``group`` says what is one node.

    Rows have ``source``, ``target``, ``protocol``, ``service``, ``verdict``, sums, ``edges`` (how many there are) and ``sources``, ``targets``
    (how many VMs were seen on either side).

    Raises:
        GroupError: the ends of conversations are not grouped so.
    """
    group.of_both_ends()
    source, names = pair_source(asked), group.names(asked.seen)
    where = source.where
    keys = "protocol, service, verdict"
    sql = (
        f"SELECT {opener_of(group)} AS source, {target_of(group)} AS target, {keys}, {_AGAIN}, count() OVER () AS edges,"
        " uniqExactIf(if(direction = 0, vm, peer), if(direction = 0, vm, peer) != 0) AS sources, uniqExactIf(if(direction = 0, peer, vm), if(direction = 0, peer, vm) != 0) AS targets"
        f" FROM (SELECT vm, peer, {_REMOTE[group.kind == 'vm']} AS remote, direction, {keys}, {_SUMS} FROM {source.table} AS p WHERE {where.sql}"
        f" GROUP BY vm, peer, remote, direction, {keys}) AS s"
        f" ANY LEFT JOIN {names.sql} AS a ON a.number = s.vm ANY LEFT JOIN {names.sql} AS b ON b.number = s.peer"
        f" GROUP BY source, target, {keys} ORDER BY bytes DESC, source, target, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(
        sql=sql, parameters={**where.parameters, **names.parameters, "limit": asked.limit}, table=source.single
    )


_REMOTE: Final = {True: "p.remote", False: "toIPv6('::')"}
"""Addresses of no VM are one node, unless VMs are nodes."""


def peers(of: Clause, asked: Asked) -> Statement:
    """Ask with whom a VM (``of``: its numbers, to stand behind IN) spoke, the largest first; ``asked.scopes`` is its tenant.

    Rows have ``peer``, ``mine`` (1: the VM opened it), ``protocol``, ``service``, ``verdict``, sums, ``first``, ``last``, and ``rows`` (how many there are).
    """
    source, names = pair_source(asked), Group(kind="vm").names(asked.seen)
    where = both(source.where, Clause(sql=f"vm IN {of.sql} OR peer IN {of.sql}", parameters=of.parameters))
    keys = "protocol, service, verdict"
    sql = (
        f"SELECT if(other = 0, {ADDRESS}, b.name) AS peer, mine, {keys}, {_AGAIN}, min(s.first) AS first, max(s.last) AS last, count() OVER () AS rows"
        f" FROM (SELECT vm IN {of.sql} AS near, if(near, p.peer, p.vm) AS other, if(other = 0, p.remote, toIPv6('::')) AS remote,"
        f" (direction = 0) = near AS mine, {keys}, {_SUMS}, min(p.first) AS first, max(p.last) AS last FROM {source.table} AS p WHERE {where.sql}"
        f" GROUP BY near, other, remote, mine, {keys}) AS s ANY LEFT JOIN {names.sql} AS b ON b.number = s.other"
        f" GROUP BY peer, mine, {keys} ORDER BY bytes DESC, peer, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(
        sql=sql, parameters={**where.parameters, **names.parameters, "limit": asked.limit}, table=source.single
    )


def conversations(asked: Asked) -> Statement:
    """Ask for all kinds of conversations, for whoever wants to judge them again.

    Rows have ``path`` and ``peer_path`` (empty: no VM), ``remote`` (where that is no VM), ``direction``, ``protocol``, ``service``, ``verdict``, ``rule``, sums,
    ``unanswered``, ``first`` and ``last``.
    """
    source = pair_source(asked)
    names = "(SELECT number, path FROM endpoints)"
    keys = "vm, peer, remote, direction, protocol, service, verdict, rule"
    sql = (
        f"SELECT a.path AS path, b.path AS peer_path, {ADDRESS} AS address, direction, protocol, service, verdict, rule, {_AGAIN}, sum(s.unanswered) AS unanswered,"
        " toUInt32(min(s.first)) AS first, toUInt32(max(s.last)) AS last"
        f" FROM (SELECT {keys}, {_SUMS}, sum(p.unanswered) AS unanswered, min(p.first) AS first, max(p.last) AS last FROM {source.table} AS p WHERE {source.where.sql} GROUP BY {keys}) AS s"
        f" ANY LEFT JOIN {names} AS a ON a.number = s.vm ANY LEFT JOIN {names} AS b ON b.number = s.peer"
        " GROUP BY path, peer_path, address, direction, protocol, service, verdict, rule ORDER BY bytes DESC, path, peer_path, address, service LIMIT {limit:UInt32}"
    )
    return Statement(sql=sql, parameters={**source.where.parameters, "limit": asked.limit}, table=source.single)
