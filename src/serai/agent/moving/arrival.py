"""A move at its destination: events in, commands out. No I/O, no clock.

The VM's gates here stay closed until the source says that its own are closed (``Turn``), or the hypervisor that the guest runs here.
What the source says opens them for a moment only: a guest that does not come then is the source's again, whose gates
may open as soon as that moment is over, whether or not the two can still talk.
"""

from __future__ import annotations

import collections
from typing import Final

import msgspec

from serai.agent.moving.events import (
    Asked,
    Command,
    Event,
    FlowsRefused,
    FlowsTaken,
    Forgotten,
    HangUp,
    Heard,
    Joined,
    Listening,
    Lived,
    Parted,
    Release,
    Remember,
    RulesHeld,
    Say,
    Take,
    Tell,
    Ticked,
    Withhold,
)
from serai.agent.moving.kept import Arriving, Phase
from serai.model.life import Life
from serai.model.migration import Facts, Step, Ticket
from serai.wire.handoff import LEASE_SECONDS, Abort, Closed, Flows, FromSource, Live, Taken, Turn

SILENT_SECONDS: Final = 5.0
"""A source that says nothing for so long is gone: it says something every few moments, until it has said all."""
_REMEMBERED: Final = 64
"""Answers of which is known when they were given."""

_CLOSED: Final = {Phase.WAITING, Phase.READY}
_OPEN: Final = {Phase.TURNED, Phase.LIVE}


class Arrival:
    """One VM that comes."""

    def __init__(self, ticket: Ticket, digest: str, held: RulesHeld, address: str) -> None:
        """Expect it by a ruleset of ``digest``, while ``held`` is, and flows are taken at ``address``."""
        self.ticket = ticket
        self._wanted = digest
        self._held = held
        self._before = held.digest
        """What was held when it was asked; that may be of before the VM's rules were sent."""
        self._address = address
        self._phase = Phase.WAITING
        self._due = True
        """The controller waits for an answer."""
        self._joined = False
        self._number = 0
        """Of what the source has said."""
        self._answered: collections.deque[tuple[int, float]] = collections.deque(maxlen=_REMEMBERED)
        self._heard_at = 0.0
        self._lease_until = 0.0
        self._complete = False
        self._here = False
        """The VM's domain is here, running or not."""
        self._facts = Facts()
        self._why = ""
        """Why it was aborted."""
        self._silent = self._over = False

    @classmethod
    def restored(cls, kept: Arriving, held: RulesHeld, address: str) -> Arrival:
        """Go on from what an earlier agent remembered."""
        made = cls(kept.ticket, kept.digest, held, address)
        made._phase, made._complete = kept.phase, kept.complete
        made._facts, made._silent, made._why = kept.facts, kept.silent, kept.why
        made._before, made._due = "", kept.phase is Phase.WAITING
        made._lease_until = kept.lease_until
        return made

    @property
    def kept(self) -> Arriving:
        """What must outlive a restart."""
        return Arriving(
            ticket=self.ticket, digest=self._wanted, phase=self._phase, complete=self._complete, facts=self._facts,
            silent=self._silent, lease_until=self._lease_until, why=self._why,
        )  # fmt: skip

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    @property
    def open(self) -> bool:
        """Gates here may forward for the VM."""
        return self._phase in _OPEN or self._over

    @property
    def over(self) -> bool:
        """There is nothing left to do or to know."""
        return self._over

    @property
    def busy(self) -> bool:
        """It depends on moments."""
        return self._joined or self._phase is Phase.TURNED

    def refuses(self, clock: float) -> str:
        """Why the source may not begin now; empty where it may."""
        if self._phase is Phase.ABORTED:
            return "this move is over"
        if self._phase is Phase.WAITING:
            return "the VM's rules are not here yet"
        if clock > self.ticket.until and not self._here and not self._joined:
            return "the ticket of this move has ended"
        return ""

    def begin(self) -> list[Command]:
        """Do what is to be done at first."""
        closed = [] if self.open else [Withhold()]
        return [*closed, *self._look()]

    def abort(self, why: str) -> list[Command]:
        """End it where the guest does not run here."""
        if self._phase in {Phase.LIVE, Phase.ABORTED}:
            return []
        before: list[Command] = [Withhold()] if self._phase is Phase.TURNED else []
        self._phase, self._why = Phase.ABORTED, why
        told = self._part(Abort(why=why[:4096], closed=True), why)
        return [*before, *told, self._word(), Remember()]

    def handle(self, event: Event) -> list[Command]:
        """Take one event in and return what it makes necessary, in the order in which it must be done."""
        match event:
            case Ticked():
                return self._tick(event)
            case Lived():
                return self._live(event)
            case RulesHeld():
                self._held = event
                return self._look()
            case Listening():
                self._due = self._due or event.address != self._address
                self._address = event.address
                return self._look()
            case Asked():
                return self._ask(event)
            case Joined():
                return self._join(event)
            case Heard():
                return self._hear(event.message, event.now) if self._joined else []  # type: ignore[arg-type]
            case FlowsTaken():
                return self._taken(event)
            case FlowsRefused():
                return self._part(Abort(why=event.why[:4096]), event.why)
            case Parted():
                self._joined = False
                return []
            case Forgotten():
                return self._forget(event.why)
            case _:
                return []

    def _tick(self, event: Ticked) -> list[Command]:
        if self._joined and not self._complete and event.now >= self._heard_at + SILENT_SECONDS:
            self._joined = False
            return [HangUp(why="the source is silent")]
        if self._phase is Phase.TURNED and event.now >= self._lease_until:
            self._phase = Phase.READY
            return [Withhold(), Remember()]
        idle = self._phase in _CLOSED and not self._joined and not self._here
        if idle and event.clock > self.ticket.until:
            return self.abort("the ticket has ended before anything came")
        return []

    def _live(self, event: Lived) -> list[Command]:
        self._here = event.life in {Life.RUNS, Life.HELD}
        match event.life:
            case Life.RUNS if self._phase is not Phase.LIVE:
                return self._arrived()
            case Life.GONE | Life.MOVED if self._phase is Phase.TURNED:
                self._phase = Phase.READY
                return [Withhold(), Remember()]
            case Life.GONE | Life.MOVED if self._silent:
                return self._end()
            case _:
                return []

    def _arrived(self) -> list[Command]:
        opened: list[Command] = [] if self._phase is Phase.TURNED else [Release(amid=not self._complete)]
        self._phase = Phase.LIVE
        self._facts = msgspec.structs.replace(self._facts, digest=self._held.digest)
        if self._silent:
            return [*opened, *self._end()]
        live: list[Command] = [Say(message=Live())] if self._joined else []
        return [*opened, *live, self._word(), Remember()]

    def _look(self) -> list[Command]:
        """See whether what is held is enough."""
        if not self._held.digest:
            return []
        there = self._held.vnics.issuperset(self.ticket.vnics)
        if not there and self._phase in {Phase.READY, Phase.TURNED}:
            return self.abort("the rules of this host do not have the VM any more")
        right = self._held.digest == self._wanted or self._held.digest != self._before
        if not (there and right and self._due and self._address) or self._phase not in _CLOSED:
            return []
        self._phase, self._due = Phase.READY, False
        return [self._word(), Remember()]

    def _ask(self, event: Asked) -> list[Command]:
        if self._phase not in _CLOSED:
            return [self._word()]
        if event.digest != self._wanted:
            self._wanted, self._before = event.digest, self._held.digest
        self._due = True
        return self._look()

    def _join(self, event: Joined) -> list[Command]:
        self._joined, self._number, self._heard_at = True, 0, event.now
        self._answered.clear()
        return [*self._answer(event.now), *([Say(message=Live())] if self._phase is Phase.LIVE else [])]

    def _hear(self, message: FromSource, now: float) -> list[Command]:
        self._heard_at = now
        match message:
            case Flows(number=number) | Turn(number=number) if number != self._number + 1:
                why = f"message {number} has come where {self._number + 1} was due"
                return self._part(Abort(why=why), why)
            case Flows():
                return [Take(parts=message.parts)]
            case Turn():
                return self._turn(message, now)
            case Abort():
                return self._give_up(message.why)
            case _:
                why = "it begins once more"
                return self._part(Abort(why=why), why)

    def _taken(self, event: FlowsTaken) -> list[Command]:
        facts, passed = self._facts, 0 if self.open else event.unprotected
        self._facts = msgspec.structs.replace(
            facts, refused=facts.refused + event.refused, unprotected=facts.unprotected + passed
        )
        self._number += 1
        return self._answer(event.now, event.flows, event.refused) if self._joined else []

    def _answer(self, now: float, flows: int = 0, refused: int = 0) -> list[Command]:
        self._answered.append((self._number, now))
        return [Say(message=Taken(number=self._number, flows=flows, refused=refused))]

    def _turn(self, turn: Turn, now: float) -> list[Command]:
        self._number += 1
        self._complete = True
        # The source said it after it had heard this, and waits from when it said it: its wait ends later than the lease.
        since = dict(self._answered).get(turn.acknowledged)
        opened: list[Command] = []
        if self._phase is Phase.READY and since is not None and now < since + LEASE_SECONDS:
            self._phase, self._lease_until = Phase.TURNED, since + LEASE_SECONDS
            opened = [Release()]
        carried = [self._word()] if self._phase is Phase.LIVE else []
        return [*opened, *self._answer(now), *carried, Remember()]

    def _give_up(self, why: str) -> list[Command]:
        """The source says that nothing has moved."""
        if self._phase is Phase.LIVE:
            return self._part(Abort(why="the guest runs here"), why)
        before: list[Command] = [Withhold()] if self._phase is Phase.TURNED else []
        fresh = self._phase is not Phase.ABORTED
        self._phase, self._why = Phase.ABORTED, self._why or why
        told = [self._word()] if fresh else []
        return [*before, *self._part(Closed(), why), *told, Remember()]

    def _forget(self, why: str) -> list[Command]:
        if self._phase is Phase.LIVE:
            return self._end()
        if self._phase is not Phase.ABORTED:
            return self.abort(why or "the controller has forgotten this move")
        if not self._here:
            return self._end()
        self._silent = True  # until the guest runs here, or is gone, its gates wait
        return [Remember()]

    def _end(self) -> list[Command]:
        waited = self._phase not in _OPEN
        self._over = True
        parted: list[Command] = [HangUp(why="this move is over")] if self._joined else []
        return [*parted, *([Release()] if waited else []), Remember()]

    def _part(self, message: Closed | Abort, why: str) -> list[Command]:
        if not self._joined:
            return []
        self._joined = False
        return [Say(message=message), HangUp(why=why)]

    def _word(self) -> Tell:
        match self._phase:
            case Phase.LIVE:
                return Tell(step=Step.CARRIED if self._complete else Step.LIVE, facts=self._facts)
            case Phase.ABORTED:
                return Tell(step=Step.ABORTED, facts=self._facts, why=self._why)
            case _:
                facts = msgspec.structs.replace(self._facts, digest=self._held.digest)
                return Tell(step=Step.PREPARED, address=self._address, facts=facts)
