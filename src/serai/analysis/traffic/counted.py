"""What gates count beside conversations: drops by reason, and the messages that a link needs to work."""

from __future__ import annotations

from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.statement import Clause, Statement, both


def drops(of: Clause | None, asked: Asked) -> Statement:
    """Ask what gates dropped, the most first.

    Args:
        of: the numbers of a VM, to stand behind IN; None: of all VMs in the scopes that are asked about.
        asked: when.

    Rows have ``host``, ``vnic``, ``direction`` (of the packets), ``reason``, ``packets``, ``first`` and ``last`` (seconds since 1970), and ``rows`` (how many there are).
    """
    where = _where(of, asked)
    keys = "host, vnic, direction, reason"
    sql = (
        f"SELECT {keys}, {_SUMS}, count() OVER () AS rows FROM (SELECT * FROM drops WHERE {where.sql}) AS d GROUP BY {keys}"
        f" ORDER BY packets DESC, {keys} LIMIT {{limit:UInt32}}"
    )
    return Statement(sql=sql, parameters={**where.parameters, "limit": asked.limit}, table="drops")


def reasons(of: Clause | None, asked: Asked) -> Statement:
    """Ask the same by reason alone: rows have ``reason``, ``packets`` and ``vnics`` (how many gates dropped for it)."""
    where = _where(of, asked)
    sql = f"SELECT reason, sum(d.packets) AS packets, uniqExact(vnic) AS vnics FROM drops AS d WHERE {where.sql} GROUP BY reason ORDER BY packets DESC, reason"
    return Statement(sql=sql, parameters=where.parameters, table="drops")


def sightings(of: Clause, asked: Asked) -> Statement:
    """Ask what gates saw of the messages that the links of a VM (``of``: its numbers) need.

    Rows have ``vnic``, ``kind`` (see ``Sighting``), ``direction``, ``packets``, ``address`` (that the last was about), ``first`` and ``last``.
    """
    where = _where(of, asked)
    keys = "vnic, kind, direction"
    sql = (
        f"SELECT {keys}, {_SUMS}, argMax(address, at) AS address FROM (SELECT * FROM sightings WHERE {where.sql}) AS d GROUP BY {keys} ORDER BY {keys}"
        " LIMIT {limit:UInt32}"
    )
    return Statement(sql=sql, parameters={**where.parameters, "limit": asked.limit}, table="sightings")


def _where(of: Clause | None, asked: Asked) -> Clause:
    whose = asked.mine() if of is None else Clause(sql=f"vm IN {of.sql}", parameters=of.parameters)
    return both(asked.window.told("at"), whose)


_SUMS = "sum(d.packets) AS packets, toUInt32(min(at)) AS first, toUInt32(max(at)) AS last"
