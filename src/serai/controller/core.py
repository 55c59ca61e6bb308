"""What the controller decides: events in, commands out. No I/O, no clock.

Which ruleset a host should have follows from the world, from where VMs are, and from where they are about
to be; never from the order in which that was learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import HostRuleset
from serai.model.world import World
from serai.policy.compile import compile_host


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorldChanged:
    """The resources are these from now on."""

    world: World


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostReported:
    """An agent has told whom its hypervisor runs, and which ruleset its kernel holds."""

    host: str
    macs: frozenset[Mac]
    """What libvirt says is behind the taps."""
    vnics: frozenset[VnicId]
    """What the gates guard, libvirt's word or not."""
    digest: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MovePlanned:
    """A VM is about to move: its rules must be there before it."""

    vm: str
    """The VM's path."""
    to: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoveEnded:
    """The move is over, well or badly: where the VM is, the hosts' reports tell."""

    vm: str


Event = WorldChanged | HostReported | MovePlanned | MoveEnded


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SendRuleset:
    """Have a host enforce this; its acknowledgement comes back as ``HostReported``."""

    ruleset: HostRuleset


class Controller:
    """Knows what is; says which host needs which ruleset."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._world: World | None = None
        self._hosts: dict[str, HostReported] = {}
        self._moves: dict[str, str] = {}

    def handle(self, event: Event) -> list[SendRuleset]:
        """Take one event in and return which hosts need another ruleset than the one they hold."""
        match event:
            case WorldChanged():
                self._world = event.world
            case HostReported():
                self._hosts[event.host] = event
            case MovePlanned():
                self._moves[event.vm] = event.to
            case MoveEnded():
                self._moves.pop(event.vm, None)
        if self._world is None:
            return []
        wanted = (compile_host(self._world, host, vms) for host, vms in self.placement(self._world).items())
        return [SendRuleset(ruleset=r) for r in wanted if r.digest != self._hosts[r.host].digest]

    def placement(self, world: World) -> Mapping[str, frozenset[str]]:
        """For each host that has reported, the paths of the VMs whose rules it needs."""
        reported: dict[str, set[str]] = {host: set() for host in self._hosts}
        for path, vm in world.vms.items():
            macs, ids = {vnic.mac for vnic in vm.vnics}, {vnic.id for vnic in vm.vnics}
            running = [host for host, report in self._hosts.items() if macs & report.macs or ids & report.vnics]
            for host in self._places(running or [vm.host], path):
                if host in reported:
                    reported[host].add(path)
        return {host: frozenset(vms) for host, vms in sorted(reported.items())}

    def _places(self, now: Iterable[str | None], vm: str) -> set[str]:
        return {host for host in (*now, self._moves.get(vm)) if host is not None}
