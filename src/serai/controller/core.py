"""What the controller decides: events in, commands out. No I/O, no clock.

Which ruleset a host should have follows from the world, from where VMs are, and from where they are about
to be; never from the order in which that was learned. What an event costs goes by what it concerns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from serai.controller.delivery import Delivery
from serai.controller.whereabouts import Sign, Whereabouts
from serai.model.columns import Columns
from serai.model.inventory import Mac, VnicId
from serai.model.ruleset import HostRuleset
from serai.model.ruleset_delta import Delta
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.domains import DomainCompiler, compile_domains
from serai.policy.compiler.fit import ROOM, Capacity, FitError
from serai.policy.compiler.numbering import CollisionError

Undo = Callable[[], object]
"""Takes back what was learned from an event."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorldChanged:
    """The resources are these from now on."""

    world: World
    update: Update | None = None
    """What is otherwise than in the world before; None: whatever is found to be. What it does not mention is not looked at."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostReported:
    """An agent has told whom its hypervisor runs, and which ruleset its kernel holds."""

    host: str
    macs: frozenset[Mac]
    """What libvirt says is behind the taps."""
    vnics: frozenset[VnicId]
    """What the gates guard, libvirt's word or not."""
    digest: str | None
    parts: frozenset[bytes] | None = None
    """Digests of the parts of that ruleset, where they were told too."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostLeft:
    """A host is one no more: nobody's rules are needed there."""

    host: str


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


Event = WorldChanged | HostReported | HostLeft | MovePlanned | MoveEnded


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SendRuleset:
    """Have a host enforce this; its acknowledgement comes back as ``HostReported``."""

    ruleset: HostRuleset
    change: Delta | None
    """What makes it out of the ruleset that the host holds; None where that one is not known here."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An event has not been taken in: what is known, and what hosts should have, is as if it had not happened."""

    event: Event
    why: ValueError
    """A ``FitError`` (a host has no room for what it would have to hold), or a ``CollisionError``."""


class Controller:
    """Knows what is; says which host needs which ruleset."""

    def __init__(self, *, by: DomainCompiler = compile_domains, room: Capacity = ROOM) -> None:
        """Start knowing nothing. ``by`` and ``room`` are as for a ``Compiler``."""
        self._by, self._room = by, room
        self._world: World | None = None
        self._behind = False
        """A world has been refused: what came after it is otherwise in more than its update says."""
        self._compiler: Compiler | None = None
        self._whereabouts = Whereabouts()
        self._places: dict[str, frozenset[str]] = {}
        """The hosts that have, or are being sent, a VM's rules."""
        self._deliveries: dict[str, Delivery] = {}

    @property
    def world(self) -> World:
        """The resources, as of the last change that was taken in."""
        return self._world or World()

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that have reported."""
        return self._whereabouts.hosts

    def wanted(self, host: str) -> str:
        """Return the digest of the ruleset that a host should hold.

        Raises:
            LookupError: no world is known yet, so nobody can say.
        """
        if self._compiler is None:
            raise LookupError(f"what host {host} should hold follows from the resources, and none are known yet")
        return self._compiler.digest(host)

    def placement(self, world: World) -> Mapping[str, frozenset[str]]:
        """For each host that has reported, the paths of the VMs whose rules it needs."""
        whereabouts = self._whereabouts if world is self._world else self._whereabouts.among(world.vms)
        places = whereabouts.all_of(world.vms)
        return {host: frozenset(p for p, hosts in places.items() if host in hosts) for host in sorted(self.hosts)}

    def handle(self, *events: Event) -> list[SendRuleset | Refusal]:
        """Take events in, and return which hosts need another ruleset than what they hold or are being sent.

        Several come to the same as one after the other, and cost one compilation. Where they cannot all be taken in, those that
        can be are; each other one is returned, and holds up no host.
        """
        stirred: set[str] = set()
        refusals = self._take(events, stirred)
        if self._compiler is None:
            return [*refusals]
        lacking = [host for host in sorted(stirred & self._deliveries.keys()) if self._lacks(host, self._compiler)]
        return [*refusals, *(self._send(host, self._compiler) for host in lacking)]

    def foresee(self, world: World, update: Update | None = None) -> list[str]:
        """Return which of the hosts that have reported would need another ruleset if the resources were these; nothing changes.

        Raises:
            FitError: a host has no room for what it would have to hold.
            CollisionError: two different things would have the same number.
        """
        if self._compiler is None:
            return []
        undo: list[Undo] = []
        try:
            known = self._know(world, None if self._behind else update, undo)
            deltas = self._compiler.foresee(known.then(Update(places=self._moved(known.vms))))
        finally:
            for step in reversed(undo):
                step()
        return sorted(deltas.keys() & self._deliveries.keys())

    def _take(self, events: Sequence[Event], stirred: set[str]) -> list[Refusal]:
        """Take in what can be, all at once or else in halves; note the hosts that it may concern."""
        try:
            stirred |= self._take_all(events)
        except (FitError, CollisionError) as error:
            if len(events) > 1:
                half = len(events) // 2
                return self._take(events[:half], stirred) + self._take(events[half:], stirred)
            [event] = events
            self._behind |= isinstance(event, WorldChanged)
            return [Refusal(event=event, why=error)]
        return []

    def _take_all(self, events: Iterable[Event]) -> set[str]:
        """Take all events in, or none; return the hosts that may need to be told something."""
        undo: list[Undo] = []
        try:
            deltas = self._compile(*self._learn_all(events, undo))
        except BaseException:
            for step in reversed(undo):
                step()
            raise
        for event in events:
            match event:
                case HostReported():
                    delivery = self._deliveries.setdefault(event.host, Delivery(event.host))
                    delivery.reported(event.digest, event.parts)
                case HostLeft():
                    self._deliveries.pop(event.host, None)
                case WorldChanged():
                    self._behind = False
        for host in deltas.keys() & self._deliveries.keys():
            self._deliveries[host].last_change = deltas[host]
        return {event.host for event in events if isinstance(event, HostReported)} | deltas.keys()

    def _learn_all(self, events: Iterable[Event], undo: list[Undo]) -> tuple[set[str], Update]:
        """Take in what is so; return the VMs that may be elsewhere, and what is otherwise in the world."""
        paths, update = set[str](), Update()
        trusted = self._compiler is not None and not self._behind
        for event in events:
            match event:
                case WorldChanged():
                    known = event.update if trusted else None
                    update = update.then(self._know(event.world, known, undo))
                    paths |= update.vms.keys()
                    trusted = True
                case HostReported():
                    paths |= self._report(event.host, event.macs | event.vnics, undo)
                case HostLeft():
                    paths |= self._report(event.host, None, undo)
                case MovePlanned():
                    paths |= self._plan(event.vm, event.to, undo)
                case MoveEnded():
                    paths |= self._plan(event.vm, None, undo)
        return paths, update

    def _know(self, world: World, update: Update | None, undo: list[Undo]) -> Update:
        before = self._world
        if update is None:
            update = Update.between(self.world, world)
        vms = self.world.vms
        was = {path: vms.get(path) for path in update.vms}

        def back() -> None:
            self._world = before
            self._whereabouts.know(was)

        undo.append(back)
        self._world = world
        self._whereabouts.know(update.vms)
        return update

    def _report(self, host: str, signs: frozenset[Sign] | None, undo: list[Undo]) -> set[str]:
        before = self._whereabouts.signs(host)
        undo.append(lambda: self._whereabouts.report(host, before))
        return self._whereabouts.report(host, signs)

    def _plan(self, vm: str, to: str | None, undo: list[Undo]) -> set[str]:
        before = self._whereabouts.moves.get(vm)
        undo.append(lambda: self._whereabouts.plan(vm, before))
        return self._whereabouts.plan(vm, to)

    def _compile(self, paths: Iterable[str], update: Update) -> Mapping[str, Delta | None]:
        """Have the compiler know what is so; return the hosts whose ruleset is another now, and what changes it."""
        if self._world is None:
            return {}
        world = self._world
        if self._compiler is None:
            places = self._whereabouts.all_of(world.vms)
            self._compiler = Compiler.of(
                world.policies, Columns.of(world.vms.values()), places, last_word=world.last_word, quarantine=world.quarantine,
                room=self._room, by=self._by,
            )  # fmt: skip
            self._places = {path: hosts for path, hosts in places.items() if hosts}
            return dict.fromkeys(self._whereabouts.hosts)
        moved = self._moved(paths)
        whole = update.then(Update(places=moved))
        deltas = {} if whole == Update() else self._compiler.update(whole)
        for path, hosts in moved.items():
            if hosts:
                self._places[path] = hosts
            else:
                del self._places[path]
        return deltas

    def _moved(self, paths: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the hosts that need the rules of those among some VMs that others had so far."""
        places = self._whereabouts.all_of(paths)
        return {path: hosts for path, hosts in places.items() if hosts != self._places.get(path, frozenset())}

    def _lacks(self, host: str, compiler: Compiler) -> bool:
        return self._deliveries[host].expected != compiler.digest(host)

    def _send(self, host: str, compiler: Compiler) -> SendRuleset:
        ruleset = compiler.ruleset(host)
        return SendRuleset(ruleset=ruleset, change=self._deliveries[host].send(ruleset))
