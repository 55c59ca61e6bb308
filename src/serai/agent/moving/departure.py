"""A move at its source: events in, commands out. No I/O, no clock.

Flows are copied while the guest runs, those that change again and again. When the guest is stopped, the gates here close, what is
left of the flows follows, and it is the destination's turn. If the guest comes back, the gates here open again as soon as
the destination's are closed for certain: it has said so, or what it was told opens them no more.
"""

from __future__ import annotations

from typing import Final

from serai.agent.moving.account import Account
from serai.agent.moving.aftermath import Aftermath
from serai.agent.moving.events import (
    Command,
    Copied,
    Event,
    Forgotten,
    HandedOver,
    HandOver,
    HangUp,
    Heard,
    Joined,
    Lived,
    Migrate,
    MigrationEnded,
    Parted,
    Reach,
    Release,
    Remember,
    Say,
    StopMigration,
    Tell,
    Ticked,
    Told,
    Withhold,
)
from serai.agent.moving.kept import Departing, Phase
from serai.agent.moving.line import Line
from serai.model.life import Life
from serai.model.migration import Facts, Step, Ticket
from serai.wire.handoff import LEASE_SECONDS, VERSION, Abort, Begin, Closed, FromDestination, Live, Taken

ATTEMPTS: Final = 50
"""How often it is reached for in vain before the guest is stopped."""
CARRY_SECONDS: Final = 10.0
"""How long the last flows may take when the guest is gone."""
LIVE_SECONDS: Final = 1.0
"""How long the destination may take to say that the guest runs there."""
WAIT_SECONDS: Final = LEASE_SECONDS + 0.5
"""How long after ``Turn`` the destination's gates may be open without the guest."""

_BEFORE: Final = {Phase.COPYING, Phase.COPIED}
_AWAY: Final = {Phase.SWITCHED, Phase.RETURNING}
_ENDED: Final = {Phase.FENCED, Phase.ABORTED}


class Departure:
    """One VM that leaves."""

    def __init__(self, ticket: Ticket, address: str, *, migrate: bool) -> None:
        """Take it to where flows are taken; ``migrate``: and have the hypervisor move the guest."""
        self.ticket = ticket
        self._address = address
        self._migrate = migrate
        self._phase = Phase.COPYING
        self._line = Line()
        self._began = self._migrating = False
        self._turned_at: float | None = None
        """When the destination was told that it is its turn, the last time; None: its gates are not open for that."""
        self._carried = self._live_there = self._moved = self._back = False
        self._moved_at = 0.0
        self._why = ""
        """Why it is being aborted; empty: it is not."""
        self._account = Account(Facts())
        self._after = Aftermath(away=False, silent=False)
        self._restored = False

    @classmethod
    def restored(cls, kept: Departing, now: float) -> Departure:
        """Go on from what an earlier agent remembered."""
        made = cls(kept.ticket, kept.address, migrate=kept.migrate)
        made._phase, made._began, made._account = kept.phase, kept.began, Account(kept.facts)
        made._after = Aftermath(away=kept.phase is Phase.FENCED, silent=kept.silent)
        made._why = kept.why if kept.phase in _ENDED else ""
        if kept.phase not in _ENDED:
            made._restored = True
            made._turned_at = None if kept.phase in _BEFORE else now
            made._migrating = kept.began
        if kept.phase is Phase.RETURNING:
            made._why = kept.why or "the source's agent was restarted"
        return made

    @property
    def kept(self) -> Departing:
        """What must outlive a restart."""
        return Departing(
            ticket=self.ticket, address=self._address, migrate=self._migrate, phase=self._phase, began=self._began,
            facts=self._account.facts, silent=self._after.silent, why=self._why,
        )  # fmt: skip

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    @property
    def open(self) -> bool:
        """Gates here may forward for the VM."""
        return self._phase in _BEFORE or (self._phase is Phase.ABORTED and not self._after.away) or self.over

    @property
    def over(self) -> bool:
        """There is nothing left to do or to know."""
        return self._after.over

    @property
    def busy(self) -> bool:
        """It depends on moments."""
        return self._phase not in _ENDED

    @property
    def switching(self) -> bool:
        """The guest is stopped, and does not run anywhere yet as far as is known: each moment counts."""
        return self._phase is Phase.SWITCHED and not (self._live_there or self._moved)

    def begin(self) -> list[Command]:
        """Do what is to be done at first."""
        if self._restored or self._phase in _ENDED:
            return [] if self.open else [Withhold()]
        self._line.reaching = True
        return [Remember(), Reach(address=self._address)]

    def abort(self, why: str) -> list[Command]:
        """End it, where that can be done still: of a guest that is stopped the hypervisor alone says where it runs next."""
        if self._phase in _ENDED or self._phase is Phase.RETURNING:
            return []
        if self._migrating:
            fresh, self._why = not self._why, self._why or why
            return [StopMigration()] if fresh else []
        return self._aborted(why) if self._phase in _BEFORE else []

    def handle(self, event: Event) -> list[Command]:
        """Take one event in and return what it makes necessary, in the order in which it must be done."""
        match event:
            case Forgotten():
                return self._forget(event)
            case Told():
                self._address, self._line.attempts = event.address, 0
                return self._word()
            case HandedOver():
                return self._fenced(event)
            case Lived() if self._phase in _ENDED:
                return self._after.lived(event.life, aborted=self._phase is Phase.ABORTED)
            case _ if self._phase in _ENDED:
                return []
            case Ticked():
                return self._tick(event)
            case Joined():
                return self._join(event)
            case Heard():
                return self._hear(event.message, event.now) if self._line.joined else []  # type: ignore[arg-type]
            case Parted():
                return self._part(event)
            case Copied():
                return self._copied(event)
            case Lived():
                return self._live(event)
            case MigrationEnded():
                return self._migrated(event)
            case _:
                return []

    # Time

    def _tick(self, event: Ticked) -> list[Command]:
        now = event.now
        if self._phase is Phase.COPYING and event.clock > self.ticket.until:
            return self.abort("the ticket has ended before the move began")
        if self._phase is Phase.RETURNING and self._back and self._closed_for_certain(now):
            return self._aborted(self._why)
        if (fenced := self._fence(now)) or (self._moved and self._carried):
            return fenced
        if not self._line.joined:
            return self._reach(now)
        if self._line.late(now):
            return self._gone("it does not answer", now)
        return [self._line.copy(now)] if self._phase in _BEFORE and self._line.due(now) else []

    def _reach(self, now: float) -> list[Command]:
        idle = self._line.reaching or self._carried or self._phase is Phase.RETURNING or self._waits()
        if idle or now < self._line.reach_at:
            return []
        self._line.reaching = True
        return [Reach(address=self._address)]

    def _waits(self) -> bool:
        """A restarted agent waits for the hypervisor's word before it does anything."""
        return self._restored and self._phase in _BEFORE

    def _closed_for_certain(self, now: float) -> bool:
        return self._turned_at is None or now >= self._turned_at + WAIT_SECONDS

    # The other host

    def _join(self, event: Joined) -> list[Command]:
        self._line.join(event.now)
        return [Say(message=Begin(version=VERSION, move=self.ticket.move, epoch=self.ticket.epoch))]

    def _hear(self, message: FromDestination, now: float) -> list[Command]:
        match message:
            case Taken(number=number) if self._line.answered(number, now):
                return self._taken(now)
            case Taken():
                return self._gone("it answers what was not said", now)
            case Live():
                return self._runs_there(now)
            case Closed() if self._phase is Phase.RETURNING:
                self._turned_at = None
                return self._aborted(self._why) if self._back else []
            case Closed():
                return self._gone("it has given up", now)
            case Abort():
                return self._refused(message, now)

    def _taken(self, now: float) -> list[Command]:
        if not self._line.whole:
            return [] if self._phase is Phase.RETURNING else [self._line.copy(now)]
        if not self._line.quiet:
            return []
        match self._phase:
            case Phase.COPYING:
                self._phase = Phase.COPIED
                migrate: list[Command] = []
                if self._migrate and not self._began:
                    self._began = self._migrating = True
                    migrate = [Migrate(address=self._address)]
                return [Tell(step=Step.COPIED, facts=self._account.facts), Remember(), *migrate]
            case Phase.SWITCHED | Phase.RETURNING if self._line.turn:
                self._carried = True
                return self._fence(now)
            case _:
                return []

    def _refused(self, abort: Abort, now: float) -> list[Command]:
        parted = self._gone(abort.why, now)
        if abort.closed:
            self._turned_at = None
        match self._phase:
            case Phase.COPYING | Phase.COPIED:
                return [*parted, *self.abort(f"the destination does not take the VM's flows: {abort.why}")]
            case Phase.RETURNING if abort.closed and self._back:
                return [*parted, *self._aborted(self._why)]
            case _:
                return parted

    def _gone(self, why: str, now: float) -> list[Command]:
        return [HangUp(why=why), *self._part(Parted(why=why, now=now))]

    def _part(self, event: Parted) -> list[Command]:
        self._line.part(event.why, event.now)
        if self._phase not in _BEFORE:
            return self._fence(event.now)
        if self._line.attempts < ATTEMPTS or (self._phase is Phase.COPIED and not self._migrate):
            return []
        return self.abort(f"the VM's flows cannot be handed to the destination: {event.why}")

    # Flows

    def _copied(self, event: Copied) -> list[Command]:
        if not self._line.joined:
            return []
        self._line.copied(event)
        self._account.sent(event.flows, first=self._phase is Phase.COPYING)
        if self._phase is not Phase.SWITCHED or self._line.turn:
            return []
        self._turned_at = event.now
        return [Say(message=self._line.say_turn())]

    # The guest

    def _live(self, event: Lived) -> list[Command]:
        match event.life:
            case Life.HELD if self._phase in _BEFORE:
                self._account.stopped(event.now)
                return self._switch(event.now)
            case Life.RUNS if self._phase in _AWAY and not self._moved:
                self._back = True
                return self._return("the guest runs at the source again", event.now)
            case Life.RUNS if self._waits():
                self._restored = self._migrating
                # What others have begun goes on without this agent; with it, now that it is back.
                return self.abort("the source's agent was restarted") if self._migrate else []
            case Life.MOVED:
                return self._gone_there(event.now)
            case Life.GONE if self._restored or self._live_there:
                return self._gone_there(event.now)
            case Life.GONE if not self._migrating:
                why = "the VM has ended at the source"
                self._back = self._phase in _AWAY
                return self._return(why, event.now) if self._back else self.abort(why)
            case _:
                return []

    def _switch(self, now: float) -> list[Command]:
        """It is stopped: gates close first; then the rest of its flows goes, and after it ``Turn``."""
        self._phase, self._line.reach_at = Phase.SWITCHED, now
        rest: list[Command] = [self._line.copy(now)] if self._line.joined and self._line.whole else []
        return [Withhold(), *rest, Tell(step=Step.SWITCHED, facts=self._account.facts), Remember()]

    def _runs_there(self, now: float) -> list[Command]:
        self._live_there = True
        switched = self._switch(now) if self._phase in _BEFORE else []
        if self._phase is Phase.RETURNING and not self._back:
            self._phase = Phase.SWITCHED
        self._account.runs_there(now)
        return switched or self._fence(now)

    def _gone_there(self, now: float) -> list[Command]:
        if self._moved:
            return []
        self._moved, self._moved_at, self._migrating = True, now, False
        switched = self._switch(now) if self._phase in _BEFORE else []
        self._phase = Phase.SWITCHED
        return [*switched, *self._fence(now)]

    def _fence(self, now: float) -> list[Command]:
        """It is gone: that is told when all flows are there too, and the destination has said that the guest is; or has had the time to."""
        told = self._carried and (self._live_there or not self._line.joined or now >= self._moved_at + LIVE_SECONDS)
        late = now >= self._moved_at + CARRY_SECONDS
        return [HandOver()] if self._moved and (told or late) else []

    def _migrated(self, event: MigrationEnded) -> list[Command]:
        self._migrating = False
        if not event.why:
            return self._gone_there(event.now)
        why = self._why or event.why
        if self._phase in _BEFORE:
            return self._aborted(why)
        there = self._moved or (self._live_there and not self._back)
        return [] if there or self._phase is Phase.RETURNING else self._return(why, event.now)

    # Ends

    def _return(self, why: str, now: float) -> list[Command]:
        """It stays here: gates open when the destination's are closed, and the hypervisor has said that it runs, or is no more.

        Until then it may hold the guest for longer than anybody waits, and still find that it runs at the destination.
        """
        why = self._why or why
        if self._back and (
            self._turned_at is None or (self._phase is Phase.RETURNING and self._closed_for_certain(now))
        ):
            return self._aborted(why)
        if self._phase is Phase.RETURNING:
            return []
        self._phase, self._why = Phase.RETURNING, why
        said: list[Command] = [Say(message=Abort(why=self._why[:4096]))] if self._line.joined else []
        return [*said, Remember()]

    def _aborted(self, why: str) -> list[Command]:
        opened: list[Command] = [] if self.open else [Release()]
        returned = self._phase is Phase.RETURNING
        self._phase, self._why = Phase.ABORTED, why
        parted: list[Command] = []
        if self._line.joined:
            self._line.joined = False
            said: list[Command] = [] if returned else [Say(message=Abort(why=why[:4096]))]
            parted = [*said, HangUp(why=why)]
        return [*opened, *parted, *self._word(), Remember()]

    def _fenced(self, event: HandedOver) -> list[Command]:
        self._phase, self._after.away = Phase.FENCED, True
        self._account.fenced(event.unprotected, encrypted=True if self._began else None)
        lost = self._line.lost or "the destination does not answer"
        self._why = "" if self._carried else f"its last flows could not be carried along: {lost}"
        parted: list[Command] = [HangUp(why="this move is over")] if self._line.joined else []
        self._line.joined = False
        return [*parted, *self._word(), Remember()]

    def _forget(self, event: Forgotten) -> list[Command]:
        if self._phase in _ENDED:
            return self._after.forgotten(aborted=self._phase is Phase.ABORTED)
        if self._phase is Phase.SWITCHED and self._live_there and not self._migrating:
            return [HandOver()]
        return self.abort(event.why or "the controller has forgotten this move")

    def _word(self) -> list[Command]:
        steps = {Phase.COPIED: Step.COPIED, Phase.FENCED: Step.FENCED, Phase.ABORTED: Step.ABORTED}
        if self._phase is Phase.COPYING:
            return []
        step = steps.get(self._phase, Step.SWITCHED)
        return [Tell(step=step, facts=self._account.facts, why=self._why if self._phase in _ENDED else "")]
