"""What a controller counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from serai.controller.current import Current
from serai.controller.moves.moves import Moves
from serai.controller.shard import Shard
from serai.controller.traffic.traffic import Traffic

_OF_TENANTS: Final = {
    "traffic_bytes": "Bytes of a tenant's VMs, both ways.",
    "traffic_packets": "Packets of a tenant's VMs, both ways.",
    "traffic_connections": "Conversations of a tenant's VMs that began.",
    "traffic_denied_packets": "Packets of a tenant's VMs, or to them, that were dropped.",
}


def figures(current: Current, shard: Shard, moves: Moves, traffic: Traffic, troubles: Mapping[str, str]) -> bytes:
    """Return the figures as they are now, in the text format of Prometheus."""
    registry = CollectorRegistry()

    def gauge(name: str, says: str, value: float) -> None:
        Gauge(f"serai_{name}", says, registry=registry).set(value)

    states = list(shard.states())
    gauge("revision", "The latest revision of the resources.", current.edition.revision)
    gauge("resources", "Resources in force.", len(current.edition.written))
    gauge("leads", "Whether this controller leads.", shard.term is not None)
    gauge("compiled_revision", "The revision up to which hosts have been told.", shard.compiled)
    gauge("hosts_known", "Hosts of which this controller knows, while it leads.", len(states))
    gauge("hosts_connected", "Hosts whose agents are connected.", sum(state.connected for state in states))
    gauge("hosts_behind", "Hosts that do not hold what they should.", sum(s.holds != s.wanted for s in states))
    gauge("vnics_guarded", "vNICs behind whose gates somebody is known.", sum(state.vnics for state in states))
    gauge("moves_open", "Moves of VMs that are not over, while this controller leads.", moves.open())
    gauge("troubles", "What is wrong with this controller; see /readyz.", sum(map(bool, troubles.values())))
    return generate_latest(registry) + _of_traffic(traffic)


def _of_traffic(traffic: Traffic) -> bytes:
    """Write what was recorded since the controller's start: a few series for each host and for each tenant that has any traffic.

    By hand: for the tenants of a large site the library takes seconds, and adds to each series that it began just now.
    """
    totals = traffic.intake.totals
    hosts, tenants, exported = list(totals.hosts()), list(totals.tenants()), traffic.exported
    parts: list[str] = []

    def counter(name: str, says: str, label: str, values: Iterable[tuple[str, int]]) -> None:
        parts.append(f"# HELP serai_{name}_total {says}\n# TYPE serai_{name}_total counter\n")
        parts.extend(f'serai_{name}_total{{{label}="{_escaped(of)}"}} {float(value)!r}\n' for of, value in values)

    counter("flow_records", "Records of traffic that were taken.", "host", ((host, taken) for host, taken, _ in hosts))
    counter(
        "flow_records_lost", "Records of traffic that are known to be lost.", "host", ((host, lost) for host, _, lost in hosts)
    )  # fmt: skip
    for place, (name, says) in enumerate(_OF_TENANTS.items(), 1):
        counter(name, says, "tenant", ((str(each[0]) or "(provider)", int(each[place])) for each in tenants))
    counter(
        "export_records", "Records that others were told of.", "to", ((to, told.sent) for to, told in exported.items())
    )
    counter(
        "export_records_dropped", "Records that they could not be told of.", "to", ((to, told.dropped) for to, told in exported.items())
    )  # fmt: skip
    return "".join(parts).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
