"""What was recorded since this controller started, by host and by tenant, for Prometheus: a few numbers each, however much there is."""

from __future__ import annotations

import collections
from collections.abc import Container, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from serai.model.key import Key

_LOST = ("lost_ring", "lost_forgotten", "lost_spool")


class Totals:
    """Sums that only grow, of what the inventory has."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._hosts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        self._tenants: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0, 0])
        self._inventory: Container[Key] = ()

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Add an entry of the journal. Conversations between two VMs count once for each, as in the trends of VMs."""
        for row in tables["batches"].to_pylist():
            told = self._hosts[row["host"]]
            told[0] += row["records"]
            told[1] += sum(row[name] for name in _LOST)
        if "flows" not in tables:
            return
        flows = tables["flows"]
        denied = pc.equal(flows["verdict"], 1)
        packets = pc.add(flows["packets_out"], flows["packets_in"])
        summed = pa.table(
            {
                "tenant": flows["tenant"].cast(pa.string()), "bytes": pc.add(flows["bytes_out"], flows["bytes_in"]), "packets": packets,
                "connections": flows["connections"], "denied": pc.if_else(denied, packets, pa.scalar(0, pa.uint64())),
            }
        ).group_by("tenant").aggregate([(name, "sum") for name in ("bytes", "packets", "connections", "denied")])  # fmt: skip
        for row in summed.to_pylist():
            sums = self._tenants[row["tenant"]]
            for place, name in enumerate(("bytes", "packets", "connections", "denied")):
                sums[place] += row[f"{name}_sum"]

    def keep(self, inventory: Container[Key]) -> None:
        """Forget tenants and hosts that the inventory no longer has; hosts that joined and never stood in it are told of all the same."""
        if inventory is self._inventory:
            return
        before, self._inventory = self._inventory, inventory
        for tenant in [each for each in self._tenants if each and Key("Tenant", each) not in inventory]:
            del self._tenants[tenant]
        hosts = {host: Key("Host", host) for host in self._hosts}
        for host in [host for host, key in hosts.items() if key in before and key not in inventory]:
            del self._hosts[host]

    def hosts(self) -> Iterator[tuple[str, int, int]]:
        """Go through hosts: records that were taken, records that are known to be lost."""
        return ((host, taken, lost) for host, (taken, lost) in sorted(self._hosts.items()))

    def tenants(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Go through tenants (empty: the provider): bytes, packets, connections that began, packets denied."""
        return ((tenant, *sums) for tenant, sums in sorted(self._tenants.items()))  # type: ignore[misc]
