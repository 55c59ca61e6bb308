"""What a controller counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from serai.controller.current import Current
from serai.controller.shard import Shard
from serai.controller.traffic.traffic import Traffic


def figures(current: Current, shard: Shard, traffic: Traffic, troubles: Mapping[str, str]) -> bytes:
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
    gauge("troubles", "What is wrong with this controller; see /readyz.", sum(map(bool, troubles.values())))
    _of_traffic(registry, traffic)
    return generate_latest(registry)


def _of_traffic(registry: CollectorRegistry, traffic: Traffic) -> None:
    """Add what was recorded since the controller's start: a few series for each host and for each tenant that has any traffic."""

    def counter(name: str, says: str, *labels: str) -> Counter:
        return Counter(f"serai_{name}", says, labels, registry=registry)

    taken = counter("flow_records", "Records of traffic that were taken.", "host")
    lost = counter("flow_records_lost", "Records of traffic that are known to be lost.", "host")
    for host, records, gone in traffic.intake.totals.hosts():
        taken.labels(host).inc(records)
        lost.labels(host).inc(gone)
    sums = (
        counter("traffic_bytes", "Bytes of a tenant's VMs, both ways.", "tenant"),
        counter("traffic_packets", "Packets of a tenant's VMs, both ways.", "tenant"),
        counter("traffic_connections", "Conversations of a tenant's VMs that began.", "tenant"),
        counter("traffic_denied_packets", "Packets of a tenant's VMs, or to them, that were dropped.", "tenant"),
    )
    for tenant, *numbers in traffic.intake.totals.tenants():
        for metric, number in zip(sums, numbers, strict=True):
            metric.labels(tenant or "(provider)").inc(number)
    sent = counter("export_records", "Records that others were told of.", "to")
    dropped = counter("export_records_dropped", "Records that they could not be told of.", "to")
    for address, told in traffic.exported.items():
        sent.labels(address).inc(told.sent)
        dropped.labels(address).inc(told.dropped)
