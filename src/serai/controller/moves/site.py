"""What is known of hosts and VMs, as far as moves need it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from serai.controller.current import Current
from serai.controller.placing.found import Placements, Reported
from serai.controller.shard import Shard
from serai.model.inventory import VirtualMachine, VnicId


class KnownSite:
    """The shard's hosts, and the VMs in force (``events.Site``)."""

    def __init__(self, shard: Shard, current: Current) -> None:
        """Ask these."""
        self._shard, self._current = shard, current
        self._placements = Placements()

    def vm(self, path: str) -> VirtualMachine | None:
        """Return a VM by its path; None: there is none."""
        return self._current.edition.catalog.world.vms.get(path)

    def connected(self, host: str) -> bool:
        """Say whether the agent of a host is there."""
        state = self._shard.state(host)
        return state is not None and state.connected

    def holds(self, host: str) -> str | None:
        """Return the digest of the ruleset that a host's kernel holds, as its agent says."""
        state = self._shard.state(host)
        return state.holds if state else None

    def wanted(self, host: str) -> str | None:
        """Return the digest of the one that it should hold; None: nobody knows yet."""
        return self._shard.wanted(host)

    def trouble(self, host: str) -> str:
        """Return what a host has said against what it was sent."""
        state = self._shard.state(host)
        return state.trouble if state else ""

    def places(self, vm: str, vnics: Collection[int]) -> frozenset[str]:
        """Return the hosts that tell of any of these vNICs of a VM, or of their MAC addresses."""
        known = self.vm(vm)
        macs = [vnic.mac for vnic in known.vnics if vnic.id in vnics] if known else []
        return self._shard.places([*map(VnicId, vnics), *macs])

    def obstacles(self, vm: str, to: str) -> Sequence[str]:
        """Return what tags, rules and pools say against it that a VM goes to a host; nothing: it may."""
        world = self._current.edition.catalog.world
        if vm not in world.vms:
            return ()
        running = Reported(world.vms, self._shard.places)
        return [str(each) for each in self._placements.of(world).blocks(vm, to, running)]

    def guards(self, host: str, vnics: Collection[int]) -> bool:
        """Say whether the gates of a host guard all of these."""
        return self._shard.guarded(host) >= set(map(VnicId, vnics))
