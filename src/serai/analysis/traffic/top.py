"""The most of something: who sends, who receives, which pairs, protocols, services, and what was denied."""

from __future__ import annotations

from typing import Final

from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.source import Source, pair_source, raw_source, vm_source
from serai.analysis.traffic.statement import NONE, Clause, Statement, both

HEADINGS: Final = {
    "talkers": ("sent by",), "listeners": ("received by",), "pairs": ("opened by", "to"), "protocols": ("protocol",),
    "services": ("service",), "denied": ("opened by", "to", "service", "rule"),
}  # fmt: skip
_BYTES: Final = {"talkers": "bytes_out", "listeners": "bytes_in"}
_PACKETS: Final = {"talkers": "packets_out", "listeners": "packets_in"}
_DENIED: Final = Clause(sql="verdict = 1")
_PASSED: Final = Clause(sql="verdict != 1")
_BOTH: Final = (
    "sum(bytes_out + bytes_in) AS bytes, sum(packets_out + packets_in) AS packets, sum(p.connections) AS connections"
)
_SUMMED: Final = "sum(s.bytes) AS bytes, sum(s.packets) AS packets, sum(s.connections) AS connections"
_ALL: Final = (
    "sum(bytes) OVER () AS all_bytes, sum(packets) OVER () AS all_packets, sum(connections) OVER () AS all_connections"
)


def top(by: str, group: Group, asked: Asked) -> Statement:
    """Ask for the most of something, largest first.

    Rows have ``names`` (a list), ``bytes``, ``packets``, ``connections``, and the totals of all there is: ``all_bytes``, ``all_packets``,
    ``all_connections``. Protocols and services come as numbers: ``protocol``, ``service``; rules as ``rule``. What is denied has ``last`` (seconds since 1970).

    Raises:
        GroupError: the ends of conversations are not grouped so.
    """
    if by in _BYTES:
        return _ends(by, group, asked)
    if by in {"protocols", "services"}:
        return _services(by, asked)
    return _pairs(by, group, asked)


def _ends(by: str, group: Group, asked: Asked) -> Statement:
    sums = f"sum({_BYTES[by]}) AS bytes, sum({_PACKETS[by]}) AS packets, sum(r.connections) AS connections"
    source = raw_source(asked) if group.is_of_records else vm_source(asked)
    where = both(source.where, asked.mine(), _PASSED)
    rows = f"FROM {source.table} AS r WHERE {where.sql}"
    parameters = {**where.parameters, "limit": asked.limit}
    if group.is_of_records:
        summed = f"(SELECT if(r.{group.kind} = '', '{NONE}', toString(r.{group.kind})) AS name, {sums} {rows} GROUP BY name) AS s"
    else:
        names = group.names(asked.seen)
        parameters |= names.parameters
        summed = f"(SELECT vm, {sums} {rows} GROUP BY vm) AS s ANY LEFT JOIN {names.sql} AS e ON e.number = s.vm"
    sql = f"SELECT [name] AS names, {_SUMMED}, {_ALL} FROM {summed} GROUP BY name HAVING bytes > 0 ORDER BY bytes DESC, names LIMIT {{limit:UInt32}}"
    return Statement(sql=sql, parameters=parameters, table=source.single)


def _services(by: str, asked: Asked) -> Statement:
    keys = "protocol" if by == "protocols" else "protocol, service"
    source = pair_source(asked)
    if by == "protocols" and asked.narrowed is None and asked.scopes is None:
        source = Source(table="protocol_10s", where=asked.window.widened("10s").clause("t"))
    where = both(source.where, _PASSED)
    sql = (
        f"SELECT [] :: Array(String) AS names, {keys}, {_BOTH}, {_ALL} FROM {source.table} AS p WHERE {where.sql}"
        f" GROUP BY {keys} ORDER BY bytes DESC, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, "limit": asked.limit}, table=source.single)


def _pairs(by: str, group: Group, asked: Asked) -> Statement:
    group.of_both_ends()
    source, names = pair_source(asked), group.names(asked.seen)
    where = both(source.where, _DENIED if by == "denied" else _PASSED)
    more, order = (", protocol, service, rule", "packets") if by == "denied" else ("", "bytes")
    summed, again = (
        (f"{_BOTH}, max(p.last) AS last", f"{_SUMMED}, toUInt32(max(s.last)) AS last")
        if by == "denied"
        else (_BOTH, _SUMMED)
    )
    sql = (
        f"SELECT [{opener_of(group)}, {target_of(group)}] AS names{more}, {again}, {_ALL}"
        f" FROM (SELECT vm, peer, remote, direction{more}, {summed} FROM {source.table} AS p WHERE {where.sql} GROUP BY vm, peer, remote, direction{more}) AS s"
        f" ANY LEFT JOIN {names.sql} AS a ON a.number = s.vm ANY LEFT JOIN {names.sql} AS b ON b.number = s.peer"
        f" GROUP BY names{more} ORDER BY {order} DESC, names{more} LIMIT {{limit:UInt32}}"
    )
    return Statement(
        sql=sql, parameters={**where.parameters, **names.parameters, "limit": asked.limit}, table=source.single
    )


def opener_of(group: Group) -> str:
    """SQL for the name of who opened: ``a`` is the VM, ``b`` its peer."""
    return f"if(direction = 0, a.name, {_peer(group)})"


def target_of(group: Group) -> str:
    """SQL for the name of whom it was opened to."""
    return f"if(direction = 0, {_peer(group)}, a.name)"


def _peer(group: Group) -> str:
    return f"if(peer = 0, {group.outside}, b.name)"
