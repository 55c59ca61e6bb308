"""What the controller decides: events in, commands out. No I/O, no clock.

Which ruleset a host should have follows from the world, from where VMs are, and from where they are about
to be; never from the order in which that was learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from serai.model.columns import Columns
from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.datacenter import Compiler


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
    change: Delta | None
    """What makes it out of the ruleset that the host holds; None where that one is not known here."""


class Controller:
    """Knows what is; says which host needs which ruleset."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._world = World()
        self._compiler: Compiler | None = None
        self._hosts: dict[str, HostReported] = {}
        self._moves: dict[str, str] = {}
        self._places: dict[str, frozenset[str]] = {}
        self._changes: dict[str, Delta] = {}
        """The last change of each host's ruleset."""
        self._sent: dict[str, dict[str, HostRuleset]] = {}
        """What each host was told to enforce, by digest: the last, and the one that it says it holds."""

    def handle(self, event: Event) -> list[SendRuleset]:
        """Take one event in and return which hosts need another ruleset than the one they hold.

        Raises:
            FitError: a host has no room for what it would have to hold. The event is not taken in, and holds up no other.
        """
        hosts, moves = self._hosts.copy(), self._moves.copy()
        try:
            return self._take(event)
        except ValueError:
            self._hosts, self._moves = hosts, moves
            raise

    def _take(self, event: Event) -> list[SendRuleset]:
        match event:
            case WorldChanged():
                self._know(event.world)
            case HostReported():
                self._hosts[event.host] = event
            case MovePlanned():
                self._moves[event.vm] = event.to
            case MoveEnded():
                self._moves.pop(event.vm, None)
        if self._compiler is None:
            return []
        places = self._placed(self._world)
        moved = {path: hosts for path, hosts in places.items() if hosts != self._places.get(path)}
        self._changes |= self._compiler.update(Update(places=moved))
        self._places = places
        return [self._send(host, self._compiler) for host in sorted(self._hosts) if self._lacks(host, self._compiler)]

    def _know(self, world: World) -> None:
        """Compile what is new about ``world``, with the VMs where they are."""
        gone = dict.fromkeys(self._places.keys() - world.vms.keys(), frozenset[str]())
        places = gone | self._placed(world)
        if self._compiler is None:
            self._compiler = Compiler.of(
                world.policies, Columns.of(world.vms.values()), places, last_word=world.last_word, quarantine=world.quarantine
            )  # fmt: skip
        else:
            self._changes |= self._compiler.update(Update.between(self._world, world).then(Update(places=places)))
        self._world, self._places = world, places

    def _lacks(self, host: str, compiler: Compiler) -> bool:
        return compiler.digest(host) != self._hosts[host].digest

    def _send(self, host: str, compiler: Compiler) -> SendRuleset:
        wanted, reported = compiler.ruleset(host), self._hosts[host].digest
        held = self._sent.get(host, {}).get(reported or "")
        self._sent[host] = {ruleset.digest: ruleset for ruleset in (held, wanted) if ruleset}
        last = self._changes.get(host)
        if last and (last.before, last.after) == (reported, wanted.digest):
            return SendRuleset(ruleset=wanted, change=last)
        return SendRuleset(ruleset=wanted, change=Delta.between(held, wanted) if held else None)

    def placement(self, world: World) -> Mapping[str, frozenset[str]]:
        """For each host that has reported, the paths of the VMs whose rules it needs."""
        placed = self._placed(world)
        return {host: frozenset(p for p, hosts in placed.items() if host in hosts) for host in sorted(self._hosts)}

    def _placed(self, world: World) -> dict[str, frozenset[str]]:
        """Of each VM, by path, the hosts that need its rules: those that have reported, and among them where it is or goes."""
        by_mac = {vnic.mac: vm.path for vm, vnic in world.vnics()}
        by_id = {vnic.id: vm.path for vm, vnic in world.vnics()}
        running: dict[str, set[str]] = {}
        for host, report in self._hosts.items():
            for path in (*map(by_mac.get, report.macs), *map(by_id.get, report.vnics)):
                if path is not None:
                    running.setdefault(path, set()).add(host)
        placed = {}
        for path, vm in world.vms.items():
            declared = {vm.host} if vm.host else set[str]()
            going = {self._moves[path]} if path in self._moves else set[str]()
            placed[path] = frozenset(running.get(path, declared) | going) & self._hosts.keys()
        return placed
