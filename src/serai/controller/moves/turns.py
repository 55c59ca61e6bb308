"""Which VMs can be moved, and whose turn it is: of each host some moves are on at a time, and nobody is overtaken on the way to a host."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator

from serai.controller.moves.events import Site
from serai.migration.states import State
from serai.model.inventory import VirtualMachine
from serai.model.migration import MOST_VNICS
from serai.store.records import MoveRecord


class CannotMoveError(ValueError):
    """A VM cannot be moved there; the message says why, and what to do."""


class NotNowError(CannotMoveError):
    """The same, as far as hosts have told: when they come back, or tell more, it may be otherwise."""


def origin(vm: VirtualMachine, to: str, site: Site) -> str:
    """Return the host from which a VM would move.

    Raises:
        CannotMoveError: it cannot be moved there.
    """
    if not 0 < len(vm.vnics) <= MOST_VNICS:
        raise CannotMoveError(f"{vm.path} has {len(vm.vnics)} vNICs: VMs with 1 to {MOST_VNICS} can be moved")
    places = sorted(site.places(vm.path, [vnic.id for vnic in vm.vnics]))
    if to in places and len(places) == 1:
        raise CannotMoveError(f"{vm.path} runs at host {to} already")
    if not places:
        raise NotNowError(f"no host tells that {vm.path} runs there: start it, or look at its host's agent")
    if len(places) > 1:
        raise NotNowError(
            f"{vm.path} is told of by hosts {' and '.join(places)} at once: see `serai status HOST` of each, and stop what is not the VM"
        )
    [source] = places
    if not site.connected(source):
        raise NotNowError(f"host {source}, where {vm.path} runs, is not connected: see `serai status {source}`")
    if not site.connected(to):
        raise NotNowError(f"host {to} is not connected: see `serai status {to}`")
    if obstacles := site.obstacles(vm.path, to):
        raise CannotMoveError(f"{vm.path} may not run at host {to}: {'; '.join(obstacles)}")
    return source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Where a move stands that waits."""

    move: MoveRecord
    vm: VirtualMachine
    source: str = ""
    """Its turn has come, and the VM is there; empty: it has not."""
    why: str = ""
    """Why it has not."""


def turns(open_: Iterable[MoveRecord], site: Site, at_once: int) -> Iterator[Turn]:
    """Go through the moves that wait, in order. Those that cannot be made just now hold up nobody; those that go on already wait for nobody."""
    moves = sorted(open_, key=lambda each: each.number)
    busy = Counter(host for move in moves if move.state is not State.WAITING for host in (move.source, move.to))
    held = set[str]()
    for move in moves:
        vm = site.vm(move.vm)
        if move.state is not State.WAITING or vm is None:
            continue
        try:
            source = origin(vm, move.to, site)
        except CannotMoveError as error:
            yield Turn(move=move, vm=vm, why=str(error))
            continue
        full = sorted(host for host in {source, move.to} if busy[host] >= at_once or host in held)
        if full and move.migrate:
            held |= {source, move.to}
            yield Turn(move=move, vm=vm, why=f"others go first: host {full[0]} takes part in {at_once} moves at a time")
            continue
        busy.update({source, move.to})
        yield Turn(move=move, vm=vm, source=source)
