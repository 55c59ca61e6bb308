"""All moves of one host: events in, commands out. No I/O, no clock.

There is one at a time of each VM, the latest: a later one takes the place of an earlier one that has not come too far, and an
earlier one is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from serai.agent.moving.arrival import Arrival
from serai.agent.moving.departure import Departure
from serai.agent.moving.events import (
    Asked,
    Command,
    Event,
    Forgotten,
    Listening,
    Lived,
    RulesHeld,
    Tell,
    Ticked,
    Told,
)
from serai.agent.moving.kept import Arriving, Kept, Phase
from serai.model.life import Life
from serai.model.migration import Step, Ticket
from serai.wire.handoff import VERSION, Begin
from serai.wire.remote import Depart, Expect, Forget, Moving

MOST: Final = 1024
"""Moves of which words are kept for a controller; beyond, the oldest go."""
_NOTHING: Final = RulesHeld(digest="", vnics=frozenset())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Do:
    """Have this done about a move."""

    ticket: Ticket
    command: Command


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Tell the controller this, and repeat it in every conversation until it ends the move."""

    moving: Moving


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What must outlive a restart."""

    moves: list[Kept] = []
    words: list[Moving] = []
    """The latest about each move that the controller has not ended."""


class Moves:
    """Knows the moves from and to one host; says what to do."""

    def __init__(self, host: str, memory: Memory) -> None:
        """Go on from what an earlier agent of ``host`` remembered."""
        self._host = host
        self._moves: dict[str, Arrival | Departure] = {}
        self._kept = memory.moves
        self._words = {moving.move: moving for moving in memory.words}
        self._held = _NOTHING
        self._address = self._nowhere = ""

    @property
    def memory(self) -> Memory:
        """What must outlive a restart."""
        return Memory(moves=[move.kept for move in self._moves.values()], words=list(self._words.values()))

    @property
    def words(self) -> Sequence[Moving]:
        """The latest word about each move that the controller has not ended."""
        return list(self._words.values())

    @property
    def busy(self) -> bool:
        """Some of it depends on moments."""
        return any(move.busy for move in self._moves.values())

    @property
    def switching(self) -> bool:
        """A guest that leaves is stopped just now."""
        return any(isinstance(move, Departure) and move.switching for move in self._moves.values())

    @property
    def phases(self) -> Mapping[str, Phase]:
        """How far each move has come here."""
        return {move: known.phase for move, known in self._moves.items()}

    @property
    def open(self) -> Sequence[tuple[Ticket, Phase]]:
        """The same, with tickets."""
        return [(known.ticket, known.phase) for known in self._moves.values()]

    # Events

    def begin(self, now: float) -> list[Do | Spread]:
        """Go on with what was remembered."""
        told: list[Do | Spread] = []
        for kept in self._kept:
            move: Arrival | Departure
            if isinstance(kept, Arriving):
                move = Arrival.restored(kept, self._held, self._address)
            else:
                move = Departure.restored(kept, now)
            told += self._add(move)
        return told

    def order(
        self, order: Expect | Depart | Forget, *, guarded: bool, now: float, clock: float, against: str = ""
    ) -> list[Do | Spread]:
        """Do what the controller says. ``guarded``: gates here guard the VM that shall depart; ``against``: why it does not depart, if so."""
        if isinstance(order, Forget):
            self._words.pop(order.move, None)
            return self.about(order.move, Forgotten(why=order.why, now=now))
        ticket = order.ticket
        known = self._moves.get(ticket.move)
        if known is not None and known.ticket == ticket:
            return self._again(known, order)
        why = self._refusal(order, known, guarded=guarded, clock=clock) or against
        if why:
            return [self._spread(ticket, Tell(step=Step.ABORTED, why=why))]
        move: Arrival | Departure
        if isinstance(order, Expect):
            move = Arrival(ticket, order.digest.hex(), self._held, self._address)
        else:
            move = Departure(ticket, order.address, migrate=order.migrate)
        return [*self._replace(ticket), *self._add(move)]

    def knows(self, move: str) -> bool:
        """Say whether this host has a part in a move."""
        return move in self._moves

    def begins(self, begin: Begin, host: str, clock: float) -> str:
        """Why ``host`` may not hand over what it begins with; empty where it may."""
        move = self._moves.get(begin.move)
        if begin.version != VERSION:
            return f"this host speaks version {VERSION} of the handoff, and not {begin.version}: upgrade the older of the two"
        if not isinstance(move, Arrival) or host != move.ticket.source:
            return f"host {self._host} expects nothing of the kind from host {host}"
        if begin.epoch != move.ticket.epoch:
            return f"this move is of epoch {move.ticket.epoch}, and not {begin.epoch}"
        return move.refuses(clock)

    def about(self, move: str, event: Event) -> list[Do | Spread]:
        """Take in what happens to one move."""
        known = self._moves.get(move)
        return [] if known is None else self._done(known, known.handle(event))

    def lived(self, domain: str, life: Life, now: float) -> list[Do | Spread]:
        """Take in what the hypervisor says of a domain."""
        mine = [move.ticket.move for move in self._moves.values() if move.ticket.domain == domain]
        return [done for move in mine for done in self.about(move, Lived(life=life, now=now))]

    def entered(self, domain: str, life: Life, now: float) -> list[Do | Spread]:
        """Take in that a domain is being made ready here, or is let go of, before the hypervisor says so itself.

        It may be stuck, and never say so. Only who comes may wait for its guest from then on; who leaves runs.
        """
        coming = [move.ticket for move in self._moves.values() if isinstance(move, Arrival)]
        mine = [ticket.move for ticket in coming if ticket.domain == domain]
        return [done for move in mine for done in self.about(move, Lived(life=life, now=now))]

    def listed(self, domains: Collection[str], now: float) -> list[Do | Spread]:
        """Take in that the hypervisor has told all of its domains, and that these are they."""
        absent = {move.ticket.domain for move in self._moves.values()} - set(domains)
        return [done for domain in sorted(absent) for done in self.lived(domain, Life.GONE, now)]

    def everywhere(self, event: Ticked | RulesHeld | Listening) -> list[Do | Spread]:
        """Take in what concerns all moves."""
        match event:
            case RulesHeld():
                self._held = event
            case Listening():
                self._address, self._nowhere = event.address, event.why
            case Ticked():
                pass
        return [done for move in list(self._moves) for done in self.about(move, event)]

    # How it is done

    def _add(self, move: Arrival | Departure) -> list[Do | Spread]:
        self._moves[move.ticket.move] = move
        return self._done(move, move.begin())

    def _again(self, known: Arrival | Departure, order: Expect | Depart) -> list[Do | Spread]:
        if isinstance(known, Arrival) and isinstance(order, Expect):
            return self.about(order.ticket.move, Asked(digest=order.digest.hex()))
        if isinstance(known, Departure) and isinstance(order, Depart):
            return self.about(order.ticket.move, Told(address=order.address))
        return [
            self._spread(order.ticket, Tell(step=Step.ABORTED, why=f"host {self._host} is the other end of this move"))
        ]

    def _refusal(
        self, order: Expect | Depart, known: Arrival | Departure | None, *, guarded: bool, clock: float
    ) -> str:
        """Why this host does not begin with a move; empty where it does."""
        ticket = order.ticket
        mine = ticket.to if isinstance(order, Expect) else ticket.source
        if known is not None:
            return "there is another ticket of this move"
        if mine != self._host or ticket.to == ticket.source:
            return f"this ticket is from host {ticket.source} to host {ticket.to}, and this is host {self._host}"
        if clock > ticket.until:
            return "the ticket has ended before the move began; see to the clocks if it was just made"
        for rival in self._rivals(ticket):
            if rival.ticket.epoch >= ticket.epoch:
                return f"host {self._host} knows a later move of this VM (epoch {rival.ticket.epoch}, this one is of {ticket.epoch})"
            if isinstance(rival, Departure) and rival.busy:
                return f"the VM is just leaving host {self._host}, by the move of epoch {rival.ticket.epoch}"
        if isinstance(order, Expect) and self._nowhere:
            return f"host {self._host} takes no flows: {self._nowhere}"
        if isinstance(order, Depart) and not guarded:
            return f"no gate of host {self._host} guards this VM: it does not run here"
        return ""

    def _rivals(self, ticket: Ticket) -> list[Arrival | Departure]:
        vnics = set(ticket.vnics)
        return [
            move
            for move in self._moves.values()
            if move.ticket.vm == ticket.vm or not vnics.isdisjoint(move.ticket.vnics)
        ]

    def _replace(self, ticket: Ticket) -> list[Do | Spread]:
        """A later move takes the place of those before it."""
        told: list[Do | Spread] = []
        for rival in self._rivals(ticket):
            told += self._done(
                rival, rival.abort(f"a later move of this VM (epoch {ticket.epoch}) has taken its place")
            )
            self._moves.pop(rival.ticket.move, None)
        return told

    def _done(self, move: Arrival | Departure, commands: Sequence[Command]) -> list[Do | Spread]:
        ticket = move.ticket
        if move.over:
            self._moves.pop(ticket.move, None)
        return [
            self._spread(ticket, command) if isinstance(command, Tell) else Do(ticket=ticket, command=command)
            for command in commands
        ]

    def _spread(self, ticket: Ticket, tell: Tell) -> Spread:
        moving = Moving(move=ticket.move, step=tell.step, address=tell.address, facts=tell.facts, why=tell.why[:4096])
        self._words.pop(ticket.move, None)
        self._words[ticket.move] = moving
        if len(self._words) > MOST:
            del self._words[next(iter(self._words))]
        return Spread(moving=moving)
