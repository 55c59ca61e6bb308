"""What a controller counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from serai.controller.current import Current
from serai.controller.shard import Shard


def figures(current: Current, shard: Shard, troubles: Mapping[str, str]) -> bytes:
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
    return generate_latest(registry)
