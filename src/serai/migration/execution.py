"""Carries a plan out: events in, commands out. No I/O, no clock.

Moves of one round are under way together, as many as the limits allow; the next round begins when all of them have ended well.
When one ends badly nothing new begins, and what is under way is waited for.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Collection, Iterator, Sequence

from serai.migration.plan.answer import Move

Key = tuple[int, str]
"""The number of a round, and the path of a VM: a VM moves once in a round."""


class LimitError(ValueError):
    """With these limits nothing would ever move; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at a time."""

    together: int = 4
    """Moves under way at most."""
    of_a_host: int = 2
    """The same of one host, whether VMs come or go."""
    late_seconds: float = 900.0
    """A move that takes longer is told; nothing else begins meanwhile."""

    def __post_init__(self) -> None:
        """Check that something can be done."""
        if min(self.together, self.of_a_host) < 1:
            raise LimitError("no move could ever begin: let one be under way at least, of all and of each host")
        if self.late_seconds <= 0:
            raise LimitError("each move would be late: give it some seconds")


# Events


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Somebody wants the plan carried out; or a controller that leads anew goes on with it."""

    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A move is over."""

    machine: str
    well: bool
    why: str = ""
    """It ended badly."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Somebody wants no more moves to begin."""

    why: str
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has passed."""

    now: float


Event = Begun | Ended | Stopped | Ticked


# Commands


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StartMove:
    """Have a VM move. Whether it may, with all as it is by now, is asked again when its ticket is made."""

    round: int
    move: Move


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TellLate:
    """Tell that a move takes long; once for each."""

    move: Move
    seconds: float


class Outcome(enum.StrEnum):
    """How the whole ended."""

    DONE = "done"
    FAILED = "failed"
    """A move ended badly. What was not begun yet needs another plan, from where VMs are now."""
    STOPPED = "stopped"
    """Somebody wanted it so; the same."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing is under way any more, and nothing will be."""

    outcome: Outcome
    why: str = ""


Command = StartMove | TellLate | Finish


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it has come, in moves."""

    done: int
    under_way: int
    waiting: int
    """Not begun. Of one that has failed or was stopped, these are not made."""


class Execution:
    """One plan that is being carried out."""

    def __init__(
        self,
        rounds: Sequence[Sequence[Move]],
        limits: Limits,
        *,
        done: Collection[Key] = (),
        under_way: Collection[Key] = (),
    ) -> None:
        """Begin, or go on.

        Args:
            rounds: the plan's.
            limits: how much at a time.
            done: moves that have ended well, when a controller goes on with what another began.
            under_way: moves that it began, and of which no end is known: agents finish them without any controller.
        """
        self._limits = limits
        self._waiting = collections.deque(
            collections.deque(
                StartMove(round=at, move=move)
                for move in moves
                if (at, move.machine) not in done and (at, move.machine) not in under_way
            )
            for at, moves in enumerate(rounds)
        )
        self._old = [move for at, moves in enumerate(rounds) for move in moves if (at, move.machine) in under_way]
        self._under_way: dict[str, tuple[Move, float]] = {}
        """By VM: since when."""
        self._late: set[str] = set()
        self._done = len(done)
        self._end: Finish | None = None
        """What it will come to, when nothing is under way any more."""
        self._finished = False

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        under_way = len(self._under_way) + len(self._old)
        return Progress(done=self._done, under_way=under_way, waiting=sum(map(len, self._waiting)))

    @property
    def late(self) -> Collection[str]:
        """The VMs that are on their way for too long: nothing else begins."""
        return self._late

    def handle(self, event: Event) -> list[Command]:
        """Take note of an event, and return what is to be done about it."""
        match event:
            case Begun():
                self._under_way |= {move.machine: (move, event.now) for move in self._old}
                self._old = []
            case Ended():
                if self._under_way.pop(event.machine, None) is None:
                    return []  # told twice, or no matter of this plan
                self._late.discard(event.machine)
                self._done += event.well
                if not event.well:
                    self._end = self._end or Finish(outcome=Outcome.FAILED, why=f"{event.machine}: {event.why}")
            case Stopped():
                self._end = self._end or Finish(outcome=Outcome.STOPPED, why=event.why)
            case Ticked():
                pass
        return [*self._tell_late(event.now), *self._go_on(event.now)]

    def _tell_late(self, now: float) -> Iterator[Command]:
        for machine, (move, since) in self._under_way.items():
            if now - since >= self._limits.late_seconds and machine not in self._late:
                self._late.add(machine)
                yield TellLate(move=move, seconds=now - since)

    def _go_on(self, now: float) -> Iterator[Command]:
        if self._finished:
            return
        while self._waiting and not self._waiting[0] and not self._under_way:
            self._waiting.popleft()
        if self._end is None and not self._late:
            yield from self._start(now)
        if not self._under_way and (self._end is not None or not self._waiting):
            self._finished = True
            yield self._end or Finish(outcome=Outcome.DONE)

    def _start(self, now: float) -> Iterator[Command]:
        """Begin what the limits allow, of one round. Who must wait for a host lets others pass."""
        busy = collections.Counter(host for move, _ in self._under_way.values() for host in (move.source, move.to))
        later: collections.deque[StartMove] = collections.deque()
        this = self._waiting[0] if self._waiting else later
        while this and len(self._under_way) < self._limits.together:
            start = this.popleft()
            move = start.move
            if max(busy[move.source], busy[move.to]) >= self._limits.of_a_host:
                later.append(start)
                continue
            busy.update((move.source, move.to))
            self._under_way[move.machine] = (move, now)
            yield start
        this.extendleft(reversed(later))
