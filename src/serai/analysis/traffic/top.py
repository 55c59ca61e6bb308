"""The most of something: who sends, who receives, which pairs, protocols, services, and what was denied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from serai.analysis.filter import Filter
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.source import Source, pair_source, vm_source
from serai.analysis.traffic.statement import EVERYTHING, Clause, Statement, both, numbers_within, tenant_of
from serai.analysis.traffic.window import Window
from serai.model.tenancy import Scope

HEADINGS: Final = {
    "talkers": ("sent by",), "listeners": ("received by",), "pairs": ("opened by", "to"), "protocols": ("protocol",),
    "services": ("service",), "denied": ("opened by", "to", "service", "rule"),
}  # fmt: skip
_BYTES: Final = {"talkers": "bytes_out", "listeners": "bytes_in"}
_PACKETS: Final = {"talkers": "packets_out", "listeners": "packets_in"}


def top(by: str, group: Group, window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None, limit: int) -> Statement:
    """Ask for the most of something, largest first.

    Rows have ``names`` (a list), ``bytes``, ``packets``, ``connections``, and the totals of all there is: ``all_bytes``, ``all_packets``,
    ``all_connections``. Protocols and services come as numbers: ``protocol``, ``service``; rules as ``rule``.
    """
    if by in _BYTES:
        return _ends(by, group, window, narrowed, scopes, limit)
    if by in {"protocols", "services"}:
        return _services(by, window, narrowed, scopes, limit)
    return _pairs(by, group, window, narrowed, scopes, limit)


def _ends(by: str, group: Group, window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None, limit: int) -> Statement:
    source, names = vm_source(window, narrowed), group.names(scopes)
    where = both(source.where, _mine(scopes), Clause(sql="verdict != 1"))
    sums = f"sum({_BYTES[by]}) AS bytes, sum({_PACKETS[by]}) AS packets, sum(connections) AS connections"
    sql = (
        f"SELECT [name] AS names, sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections, {_ALL}"  # noqa: S608
        f" FROM (SELECT vm, {sums} FROM {source.table} WHERE {where.sql} GROUP BY vm) AS s ANY LEFT JOIN {names.sql} AS e ON e.number = s.vm"
        " GROUP BY name HAVING bytes > 0 ORDER BY bytes DESC, names LIMIT {limit:UInt32}"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "limit": limit})


def _services(by: str, window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None, limit: int) -> Statement:
    keys = "protocol" if by == "protocols" else "protocol, service"
    source, where = _pair_rows(window, narrowed, scopes)
    if by == "protocols" and narrowed is None and scopes is None:
        source, where = "protocol_10s", window.widened("10s").clause("t")
    sql = (
        f"SELECT [] :: Array(String) AS names, {keys}, sum(bytes_out + bytes_in) AS bytes, sum(packets_out + packets_in) AS packets, sum(p.connections) AS connections, {_ALL}"  # noqa: S608
        f" FROM {source} AS p WHERE {where.sql} AND verdict != 1 GROUP BY {keys} ORDER BY bytes DESC, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, "limit": limit})


def _pairs(by: str, group: Group, window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None, limit: int) -> Statement:
    source, where = _pair_rows(window, narrowed, scopes)
    denied = by == "denied"
    where = both(where, Clause(sql="verdict = 1" if denied else "verdict != 1"))
    more = ", protocol, service, rule" if denied else ""
    order = "packets" if denied else "bytes"
    names = group.names(scopes)
    sql = (
        f"SELECT [{opener_of(group)}, {target_of(group)}] AS names{more}, sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections, {_ALL}"  # noqa: S608
        f" FROM (SELECT vm, peer, remote, direction{more}, sum(bytes_out + bytes_in) AS bytes, sum(packets_out + packets_in) AS packets, sum(p.connections) AS connections"
        f" FROM {source} AS p WHERE {where.sql} GROUP BY vm, peer, remote, direction{more}) AS s"
        f" ANY LEFT JOIN {names.sql} AS a ON a.number = s.vm ANY LEFT JOIN {names.sql} AS b ON b.number = s.peer"
        f" GROUP BY names{more} ORDER BY {order} DESC, names{more} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, **names.parameters, "limit": limit})


_ALL: Final = "sum(bytes) OVER () AS all_bytes, sum(packets) OVER () AS all_packets, sum(connections) OVER () AS all_connections"


def opener_of(group: Group) -> str:
    """SQL for the name of who opened: ``a`` is the VM, ``b`` its peer."""
    return f"if(direction = 0, a.name, {_peer(group)})"


def target_of(group: Group) -> str:
    """SQL for the name of whom it was opened to."""
    return f"if(direction = 0, {_peer(group)}, a.name)"


def _peer(group: Group) -> str:
    return f"if(peer = 0, {group.outside}, b.name)"


def _pair_rows(window: Window, narrowed: Filter | None, scopes: Sequence[Scope] | None) -> tuple[str, Clause]:
    tenant = tenant_of(scopes)
    source: Source = pair_source(window, narrowed, whole_site=tenant is None)
    return source.table, both(source.where, in_tenant(tenant), touching(scopes))


def in_tenant(tenant: str | None) -> Clause:
    """Return the condition that rows are a tenant's own (None: anybody's): the key of pairs begins with it."""
    return EVERYTHING if tenant is None else Clause(sql="tenant = {tenant:String}", parameters={"tenant": tenant})


def touching(scopes: Sequence[Scope] | None) -> Clause:
    """Return the condition that one end is in some scopes."""
    inside = numbers_within(scopes)
    if inside is None:
        return EVERYTHING
    return Clause(sql=f"vm IN {inside.sql} OR peer IN {inside.sql}", parameters=inside.parameters)


def _mine(scopes: Sequence[Scope] | None) -> Clause:
    inside = numbers_within(scopes)
    return EVERYTHING if inside is None else Clause(sql=f"vm IN {inside.sql}", parameters=inside.parameters)


mine = _mine
