"""Whether a VM may run on a host: what a hypervisor is about to do, against what has been declared of the VM and of the host."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping

from serai.migration.obstacle import OtherPool
from serai.migration.placement import Placement, Where
from serai.migration.registered import Booted, altered, foreign
from serai.model.inventory import Mac, VirtualMachine
from serai.model.migration import Ticket
from serai.model.registered import UNREGISTERED, Registry
from serai.model.world import World


class Demand(enum.StrEnum):
    """How much something is asked for."""

    REQUIRE = "require"
    """Nobody comes in without it."""
    WARN = "warn"
    """Whoever comes in without it is told so."""
    OFF = "off"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a site asks of VMs that are started, and of those that come in from another host."""

    tickets: Demand = Demand.WARN
    """The controller's leave, which ``serai migrate`` gets."""
    tls: Demand = Demand.WARN
    """That the guest's memory is encrypted on its way."""
    images: Demand = Demand.WARN
    """That it is registered what a VM boots from, or is made of. What is registered is compared, unless this is ``off``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entering:
    """What a hypervisor is about to do."""

    host: str
    domain: str
    cards: Mapping[Mac, str]
    """The bridge that each of its network cards is attached to; empty where that is not known."""
    incoming: bool
    """It comes from another host, running; otherwise it is started."""
    encrypted: bool | None = None
    """The guest's memory comes over TLS; None: the host cannot tell."""
    definition: str | None = None
    """The digest of its machine definition; None: the host does not tell."""
    boots: tuple[Booted, ...] | None = None
    """What it boots from; None: nobody has looked yet."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is said to that."""

    vm: str | None
    """Path of the VM that it is; None: none that has been declared."""
    objections: tuple[str, ...] = ()
    """Why not, in sentences without an end; nothing: it may."""
    warnings: tuple[str, ...] = ()
    """What whoever does it should know."""
    look: bool = False
    """What it boots from has to be looked at first: without that it may not."""
    definition: str | None = None
    """The digest of the machine definition that is registered, where that is looked at."""

    @property
    def allowed(self) -> bool:
        """It may run there."""
        return not self.objections and not self.look


def judge(
    entering: Entering,
    world: World,
    placement: Placement,
    *,
    owner: Callable[[Mac], str | None],
    running: Where,
    going: Where,
    ticket: Callable[[str], Ticket | None],
    terms: Terms,
) -> Entry:
    """Say whether a VM may do what it is about to do.

    Args:
        entering: what that is.
        world: the resources in force, and ``placement`` what they say about hosts.
        placement: see there.
        owner: the path of the VM that has a MAC address.
        running: where VMs are, by path, and ``going`` where some are about to go.
        going: see there.
        ticket: the leave for the move of a VM, by its path, that goes on just now.
        terms: what the site asks for.
    """
    owners = sorted({path for mac in entering.cards if (path := owner(mac)) is not None and path in world.vms})
    match owners:
        case []:
            warning = "no VM with its network cards has been declared: its gates stay closed, and let nothing pass"
            return Entry(vm=None, warnings=(warning,) if entering.cards else ())
        case [path]:
            vm = world.vms[path]
        case _:
            return Entry(vm=None, objections=(f"its network cards are of several VMs: {', '.join(owners)}",))
    objections = [*_impostor(entering, vm), *_misattached(entering, vm)]
    warnings: list[str] = []
    if entering.incoming:
        for demand, why in (
            (terms.tickets, _unticketed(entering, vm, ticket(vm.path))),
            (terms.tls, _plain(entering)),
        ):
            if why and demand is not Demand.OFF:
                (objections if demand is Demand.REQUIRE else warnings).append(why)
    else:
        objections += _elsewhere(entering, vm, running)
    obstacles = placement.blocks(vm.path, entering.host, running, going)
    # Pools bind moves; of who is started elsewhere already it is said that it runs there.
    objections += [str(each) for each in obstacles if entering.incoming or not isinstance(each, OtherPool)]
    registered = world.registry.vms.get(vm.path, UNREGISTERED)
    look = False
    if registered is UNREGISTERED:
        warnings += _unregistered(vm, entering.domain, world.registry, terms.images, Demand.WARN)
        objections += _unregistered(vm, entering.domain, world.registry, terms.images, Demand.REQUIRE)
    elif terms.images is not Demand.OFF:
        objections += altered(registered, entering.definition, entering.domain)
        look = bool(registered.images) and entering.boots is None
        if entering.boots is not None:
            objections += foreign(registered, world.registry.images, entering.boots, entering.domain)
    wanted = None if terms.images is Demand.OFF else registered.definition
    return Entry(vm=vm.path, objections=tuple(objections), warnings=tuple(warnings), look=look, definition=wanted)


def _impostor(entering: Entering, vm: VirtualMachine) -> Iterator[str]:
    """It calls itself otherwise, or has cards that the VM has not."""
    called = vm.domain or vm.name
    if entering.domain != called:
        yield f"its network cards are those of {vm.path}, whose domain is called {called}"
    for mac in sorted(entering.cards.keys() - {vnic.mac for vnic in vm.vnics}):
        yield f"{vm.path} has no network card {mac}"


def _misattached(entering: Entering, vm: VirtualMachine) -> Iterator[str]:
    """A card is plugged into another network than its own."""
    for vnic in vm.vnics:
        bridge, own = entering.cards.get(vnic.mac), vnic.network.bridge
        if bridge and own and bridge != own:
            yield f"its vNIC {vnic.name} is attached to the bridge {bridge}: its network {vnic.network.path} is {own}"


def _elsewhere(entering: Entering, vm: VirtualMachine, running: Where) -> Iterator[str]:
    """It would run twice."""
    there = running.get(vm.path)
    if there not in {None, entering.host}:
        yield f"{vm.path} runs on host {there}"


def _unregistered(vm: VirtualMachine, domain: str, registry: Registry, demand: Demand, how: Demand) -> Iterator[str]:
    """Nobody has said what it shall be. Where nobody has said that of any VM, only who demands it hears of it."""
    if demand is how and (demand is Demand.REQUIRE or registry.vms):
        yield f"nobody has registered what {vm.path} boots from and is made of: `serai agent describe {domain}` writes what is to be applied"


def _unticketed(entering: Entering, vm: VirtualMachine, ticket: Ticket | None) -> str:
    if ticket is None:
        return f"it comes without a ticket: move it with `serai migrate {vm.path} {entering.host}`, which takes its connections along"
    if ticket.to != entering.host:
        return f"its ticket is for host {ticket.to}"
    return ""


def _plain(entering: Entering) -> str:
    match entering.encrypted:
        case True:
            return ""
        case False:
            return "its memory would cross the network in clear: migrate over TLS (`virsh migrate --tls`)"
        case None:
            return "its memory may cross the network in clear: set migrate_tls_force = 1 in qemu.conf, so that nothing else comes in"
