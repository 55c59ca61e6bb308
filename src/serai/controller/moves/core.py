"""What is decided about moves: events in, commands out. No I/O, no clock.

Each move goes by the table of ``serai.migration.machine``; here is what all of them have in common: whose turn it is, which move a
host's words are about, what they mean, and what is written down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from serai.controller.moves.config import MoveSettings
from serai.controller.moves.events import (
    AbortWanted,
    Asked,
    Command,
    End,
    Entered,
    Event,
    HostCame,
    HostChanged,
    HostLeft,
    Keep,
    Plan,
    PlanRefused,
    PlanTaken,
    Resumed,
    Say,
    Site,
    Ticked,
    Told,
    Unplan,
)
from serai.controller.moves.papers import LONGEST, receipt, ticket
from serai.controller.moves.turns import CannotMoveError, origin, turns
from serai.controller.moves.wording import limit, overdue, told
from serai.migration import states
from serai.migration.machine import STEPS, TOLD, after
from serai.migration.receipt import grown
from serai.migration.states import OVER, State
from serai.model.migration import Step
from serai.store.records import MoveRecord
from serai.wire.remote import Depart, Expect, Forget, Moving

_ORDER = list(Step)
_ON_THE_WAY = frozenset({State.PREPARED, State.COPIED, State.SWITCHED, State.ABORTING})
_BEFORE_SWITCH = frozenset({State.PLANNED, State.PREPARED, State.COPIED})
_COPYING = frozenset({State.PREPARED, State.COPIED})
GONE: Final = timedelta(seconds=3)
"""How long the hypervisor of a destination may not tell of a VM that comes by itself, and has been there before."""


class MovesCore:
    """All moves that are open, while this controller leads."""

    def __init__(self, site: Site, settings: MoveSettings, *, term: int) -> None:
        """Know of none yet."""
        self._site, self._settings, self._term = site, settings, term
        self._open: dict[str, MoveRecord] = {}
        self._over: set[str] = set()
        """Those that have ended since: that may not be written down yet."""
        self._due: dict[str, datetime] = {}
        self._planned: set[str] = set()
        """Those whose destination should hold the VM's rules by now."""
        self._owed: set[str] = set()
        """Those whose destination shall hear of them as soon as it is known what it should hold."""
        self._live: set[str] = set()
        """Those whose destination has said that the guest runs there."""
        self._withheld: set[str] = set()
        """Those whose source was not there when it should have had its leave: it has not got it."""
        self._said: dict[str, str] = {}
        """The digest of the ruleset by which a destination was asked to prepare last."""
        self._now = datetime.min.replace(tzinfo=UTC)
        self._commands: list[Command] = []

    @property
    def open(self) -> Collection[MoveRecord]:
        """The moves that are not over."""
        return self._open.values()

    def handle(self, event: Event, now: datetime) -> list[Command]:
        """Take one event in and return what it makes necessary, in the order in which it must be done."""
        self._now, self._commands = now, []
        match event:
            case Resumed():
                self._resume(event)
            case Asked():
                self._ask(event.move)
            case Entered():
                self._enter(event.move)
            case AbortWanted():
                self._abort(event)
            case Told():
                self._hear(event.host, event.moving)
            case HostCame() | HostLeft():
                self._come_or_leave(event)
            case HostChanged():
                self._look(event.host)
            case PlanTaken():
                self._planned |= {move.id for move in self._of_vm(event.vm)}
                self._look()
            case PlanRefused():
                for move in self._of_vm(event.vm):
                    self._happen(
                        move, states.Event.IMPOSSIBLE, why=f"host {move.to} cannot have its rules: {event.why}"
                    )
            case Ticked():
                self._look()
                self._pass_time()
        if isinstance(event, Asked | Resumed | Ticked) or any(isinstance(command, End) for command in self._commands):
            self._give_turns()
        return self._commands

    # What happens

    def _resume(self, event: Resumed) -> None:
        for move in event.moves:
            self._open[move.id] = move
            self._due[move.id] = self._until(move, again=True)
            self._happen(move, states.Event.RESUMED)
            if move.abort is not None:
                self._abort(AbortWanted(move=move.id, by=move.abort))

    def _ask(self, move: MoveRecord) -> None:
        if move.id in self._open or move.id in self._over or move.state is not State.WAITING:
            return
        self._open[move.id] = move
        self._due[move.id] = self._until(move)
        if (vm := self._site.vm(move.vm)) is None:
            return  # the next look ends it
        try:
            origin(vm, move.to, self._site)
        except CannotMoveError as error:
            self._happen(move, states.Event.IMPOSSIBLE, why=str(error))

    def _enter(self, id_: str) -> None:
        """A hypervisor tries once more: that it gave up before is of no account."""
        move = self._open.get(id_)
        if move is not None and not move.migrate and move.state in _COPYING:
            self._due[id_] = self._now + limit(State.PLANNED, self._settings)

    def _abort(self, event: AbortWanted) -> None:
        move = self._open.get(event.move)
        if move is None or (move.abort is not None and move.state is State.ABORTING):
            return
        if states.Command.REFUSE not in after(move.state, states.Event.ABORT).commands:
            self._happen(
                dataclasses.replace(move, abort=event.by), states.Event.ABORT, why=f"{event.by} has aborted it"
            )

    def _hear(self, host: str, moving: Moving) -> None:
        move = self._open.get(moving.move)
        if move is None:
            # It has not heard that this is over; or it is of a life that the database has forgotten: then it is over, too.
            self._say(host, Forget(move=moving.move, term=self._term, why="this move is over"))
            return
        if move.ticket is None or host not in {move.source, move.to}:
            return
        is_source = host == move.source
        event = TOLD.get((is_source, moving.step))
        if event is None:
            return
        if is_source:
            move = dataclasses.replace(move, here=grown(move.here, moving.facts))
        else:
            move = dataclasses.replace(move, there=grown(move.there, moving.facts))
        why = ""
        match moving.step:
            case Step.PREPARED if self._is_attested(move, moving.facts.digest):
                if move.state in _BEFORE_SWITCH:
                    move = dataclasses.replace(move, address=moving.address, digest=moving.facts.digest)
            case Step.PREPARED:
                event = states.Event.STALE
                self._said.pop(move.id, None)
            case Step.ABORTED:
                # A source that has forgotten all of it, and finds no guest, takes that for a move that was never begun.
                event = states.Event.THERE if is_source and self._is_there(move) else event
                why = told(host, moving.why)
            case step:
                if moving.why:
                    move = dataclasses.replace(move, note=told(host, moving.why)[:LONGEST])
                move = dataclasses.replace(move, reached=max(move.reached, step, key=_ORDER.index))
                if step is Step.LIVE:
                    self._live.add(move.id)
        self._happen(move, event, why=why)
        move = self._open.get(moving.move)
        if move is not None and move.state is State.FENCED and move.note and move.id in self._live:
            # The last flows are lost, as the source has told: the destination has nothing to say about them any more.
            self._happen(move, states.Event.CARRIED)

    def _come_or_leave(self, event: HostCame | HostLeft) -> None:
        came = isinstance(event, HostCame)
        for move in self._of_host(event.host):
            if event.host == move.source:
                self._happen(move, states.Event.SOURCE_CAME if came else states.Event.SOURCE_LEFT)
            else:
                self._said.pop(move.id, None)
                self._happen(move, states.Event.DESTINATION_CAME if came else states.Event.DESTINATION_LEFT)
        if came:
            self._look(event.host)

    def _look(self, host: str | None = None) -> None:
        """See whether what is known of hosts says something about moves."""
        for move in list(self._open.values()) if host is None else self._of_host(host):
            match move.state:
                case State.WAITING if self._site.vm(move.vm) is None:
                    self._happen(move, states.Event.IMPOSSIBLE, why=f"there is no VM {move.vm} any more")
                case State.PLANNED if self._is_there(move):
                    why = f"it runs at host {move.to} already: somebody else has moved it"
                    self._happen(move, states.Event.THERE, why=why)
                case State.PLANNED if self._is_held(move):
                    self._happen(move, states.Event.HELD)
                case state if state in _ON_THE_WAY and self._is_there(move):
                    self._happen(move, states.Event.THERE)
                case _ if move.id in self._owed:
                    self._carry_out(move, states.Command.EXPECT)
                case _:
                    pass

    def _pass_time(self) -> None:
        for move in list(self._open.values()):
            if not move.migrate and move.state in _COPYING and move.to in self._site.places(move.vm, _vnics(move)):
                self._due[move.id] = min(self._now + GONE, move.since + limit(move.state, self._settings))
            if self._due[move.id] <= self._now:
                self._happen(move, self._overdue(move), why=overdue(move, self._site))

    def _give_turns(self) -> None:
        for turn in list(turns(self._open.values(), self._site, self._settings.at_once)):
            if not turn.source:
                if not turn.move.migrate:
                    self._happen(turn.move, states.Event.IMPOSSIBLE, why=turn.why)
                elif turn.why != turn.move.why:
                    self._keep(dataclasses.replace(turn.move, why=turn.why))
                continue
            until = self._now + limit(State.PLANNED, self._settings)
            try:
                made = ticket(turn.move, turn.vm, turn.source, until)
            except msgspec.ValidationError as error:
                self._happen(turn.move, states.Event.IMPOSSIBLE, why=f"there can be no ticket for it: {error}")
                continue
            self._happen(dataclasses.replace(turn.move, source=turn.source, ticket=made), states.Event.TURN)

    # What is known

    def _of_vm(self, vm: str) -> list[MoveRecord]:
        return [move for move in self._open.values() if move.vm == vm and move.state is not State.WAITING]

    def _of_host(self, host: str) -> list[MoveRecord]:
        return [move for move in self._open.values() if host in {move.source, move.to} and move.ticket is not None]

    def _is_held(self, move: MoveRecord) -> bool:
        """Say whether the destination holds what it should, and was not asked to prepare by it yet."""
        wanted = self._site.wanted(move.to)
        there = move.id in self._planned and self._site.connected(move.to) and wanted is not None
        return there and self._site.holds(move.to) == wanted != self._said.get(move.id)

    def _is_attested(self, move: MoveRecord, digest: str) -> bool:
        """Say whether this is the ruleset that the destination should hold, with the rules of the VM in it."""
        return move.id in self._planned and digest != "" and digest == self._site.wanted(move.to)

    def _is_there(self, move: MoveRecord) -> bool:
        """Say whether the destination alone has the VM, as both hosts tell."""
        vnics = _vnics(move)
        both = self._site.connected(move.source) and self._site.connected(move.to)
        return both and self._site.guards(move.to, vnics) and self._site.places(move.vm, vnics) == {move.to}

    def _overdue(self, move: MoveRecord) -> states.Event:
        vnics, site = _vnics(move), self._site
        if not vnics:
            return states.Event.OVERDUE
        if site.connected(move.to) and site.guards(move.to, vnics):
            both = site.connected(move.source) and move.source in site.places(move.vm, vnics)
            # While a VM is on its way, both hosts tell of it, and an agent that has forgotten the move may guard it too early.
            return states.Event.OVERDUE if both else states.Event.OVERDUE_THERE
        both = site.connected(move.source) and site.connected(move.to)
        return (
            states.Event.OVERDUE_HERE if both and site.places(move.vm, vnics) == {move.source} else states.Event.OVERDUE
        )

    def _until(self, move: MoveRecord, *, again: bool = False) -> datetime:
        """Return when a move must have come further. With ``again`` the hosts get time to come back."""
        # Who moves a guest that nobody has asked to has begun, or has given up without a word: then it is not seen at the destination.
        alone = not move.migrate and move.state in _COPYING
        due = move.since + limit(State.PLANNED if alone else move.state, self._settings)
        known_to_hosts = again and move.state not in {State.WAITING, State.PLANNED}
        return max(due, self._now + limit(State.LIVE, self._settings)) if known_to_hosts else due

    # What is done

    def _happen(self, move: MoveRecord, event: states.Event, *, why: str = "") -> None:
        """Let something happen to a move, which may have been changed already."""
        then = after(move.state, event)
        was = self._open[move.id]
        if then.state is not move.state:
            step = STEPS.get(then.state, Step.PLANNED)
            reached = max(move.reached, step, key=_ORDER.index)
            ends_well = then.state not in {State.ABORTING, State.ABORTED}
            kept = why or move.why
            move = dataclasses.replace(
                move, state=then.state, since=self._now, reached=reached, why="" if ends_well else kept[:LONGEST]
            )
            self._open[move.id] = move
            self._due[move.id] = self._until(move)
            self._owed.discard(move.id)
        if then.state in OVER:
            self._end(was, move, event)
            return
        if move != was:
            self._keep(move)
        for command in then.commands:
            self._carry_out(self._open[move.id], command)
        if then.state is State.ABORTING and move.id in self._withheld:
            # Without its leave the source has done nothing: nobody needs to wait for it to say so.
            self._happen(self._open[move.id], states.Event.SOURCE_ABORTED)

    def _keep(self, move: MoveRecord) -> None:
        self._open[move.id] = kept = dataclasses.replace(move, version=self._open[move.id].version + 1)
        self._commands.append(Keep(move=kept))

    def _carry_out(self, move: MoveRecord, command: states.Command) -> None:
        match command:
            case states.Command.PLAN:
                self._commands.append(Plan(vm=move.vm, to=move.to))
            case states.Command.EXPECT if move.ticket:
                self._owed.discard(move.id)
                if wanted := self._site.wanted(move.to):
                    self._said[move.id] = wanted
                    self._say(move.to, Expect(ticket=move.ticket, term=self._term, digest=bytes.fromhex(wanted)))
                else:
                    self._owed.add(move.id)
            case states.Command.DEPART if move.ticket:
                (self._withheld.discard if self._site.connected(move.source) else self._withheld.add)(move.id)
                self._say(
                    move.source, Depart(ticket=move.ticket, term=self._term, address=move.address, migrate=move.migrate)
                )
            case states.Command.FORGET:
                self._forget(move)
            case _:  # nothing to say without a ticket; who is refused was told so when they asked
                pass

    def _end(self, was: MoveRecord, move: MoveRecord, event: states.Event) -> None:
        del self._open[move.id], self._due[move.id]
        self._over.add(move.id)
        self._said.pop(move.id, None)
        self._planned.discard(move.id)
        self._live.discard(move.id)
        self._withheld.discard(move.id)
        move = dataclasses.replace(move, version=was.version + 1)
        self._commands.append(End(move=move, receipt=receipt(was, move, event, self._now)))
        if move.ticket is not None:
            self._commands.append(Unplan(vm=move.vm))
            self._forget(move)

    def _forget(self, move: MoveRecord) -> None:
        for host in (move.source, move.to):
            self._say(host, Forget(move=move.id, term=self._term, why=move.why))

    def _say(self, host: str, message: Expect | Depart | Forget) -> None:
        self._commands.append(Say(host=host, message=message))


def _vnics(move: MoveRecord) -> list[int]:
    return move.ticket.vnics if move.ticket else []
