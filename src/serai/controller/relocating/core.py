"""One relocation that is being carried out: which moves begin, and how it ends.

What is remembered of it is the plan, and the moves that have begun. So one that is begun anew with those does what the one before it would have done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from serai.controller.moves.turns import CannotMoveError, NotNowError
from serai.controller.relocating.events import (
    BeginMove,
    Begun,
    Command,
    End,
    Event,
    MoveRefused,
    MoveStands,
    Note,
    Site,
    StopWanted,
    Ticked,
)
from serai.migration import execution as plan
from serai.migration.execution import Execution, Limits, Outcome, StartMove
from serai.migration.plan.answer import Move
from serai.migration.relocation import Standing, move_id
from serai.migration.states import OVER, State
from serai.store.records import MoveRecord

PATIENCE: Final = timedelta(seconds=30)
"""How long a move whose turn it is may be impossible as far as hosts have told: they come back one by one when another controller leads."""
_ENDS: Final = {Outcome.DONE: Standing.DONE, Outcome.FAILED: Standing.FAILED, Outcome.STOPPED: Standing.STOPPED}


@dataclasses.dataclass(slots=True)
class _Wanted:
    """A move whose turn it is, and that has not begun."""

    start: StartMove
    since: datetime
    why: str = ""
    """Why it cannot just now."""


class RelocationCore:
    """One relocation, while this controller leads."""

    def __init__(
        self,
        id_: str,
        rounds: Sequence[Sequence[Move]],
        limits: Limits,
        *,
        begun: Collection[MoveRecord] = (),
        stop: str | None = None,
        note: str = "",
        site: Site,
    ) -> None:
        """Go on with what is on record of it.

        Args:
            id_: its id.
            rounds: the plan's.
            limits: how much at a time.
            begun: the moves of it that there are.
            stop: who wants it stopped.
            note: what is written down of why nothing begins.
            site: what is known of hosts.
        """
        self._id, self._site, self._limits = id_, site, limits
        records = {move.id: move for move in begun}
        keys = [(at, move.machine) for at, moves in enumerate(rounds) for move in moves]
        known = {key: records[name] for key in keys if (name := move_id(id_, key)) in records}
        done = {key for key, move in known.items() if move.state is State.DONE}
        # One that was aborted is on its way as long as nobody has acted upon that.
        on = {key: move for key, move in known.items() if key not in done}
        self._execution = Execution(rounds, limits, done=done, under_way=set(on))
        self._before: list[Event] = [MoveStands(move=move) for move in on.values() if move.state in OVER]
        """What has happened before anything of it can begin."""
        self._before += [] if stop is None else [StopWanted(by=stop)]
        self._under_way = {move.id: vm for (_, vm), move in on.items()}
        """VMs that are moving, by the id of the move."""
        self._wanted: dict[str, _Wanted] = {}
        self._ends = False
        self._note = note
        self._now = datetime.min.replace(tzinfo=UTC)

    @property
    def under_way(self) -> Collection[str]:
        """The ids of the moves that have begun, and of which no end is known."""
        return self._under_way.keys()

    def handle(self, event: Event, now: datetime) -> list[Command]:
        """Take one event in, and return what it makes necessary, in the order in which it must be done."""
        self._now = now
        commands: list[Command] = []
        end = self._take(self._told(event))
        while end is None and (hopeless := self._next(commands)) is not None:
            end = self._take(self._over(hopeless, self._wanted.pop(hopeless).why))
        if end is not None:
            return [*commands, End(state=_ENDS[end.outcome], why=end.why)]
        return [*commands, *self._noted()]

    def _told(self, event: Event) -> Sequence[plan.Command]:
        """Return what follows for the plan."""
        at = self._now.timestamp()
        match event:
            case Begun():
                begun = self._execution.handle(plan.Begun(now=at))
                return [*begun, *(command for each in self._before for command in self._told(each))]
            case MoveStands(move=move):
                return self._stands(move)
            case MoveRefused(vm=vm, why=why):
                self._under_way = {name: each for name, each in self._under_way.items() if each != vm}
                return self._over(vm, why)
            case StopWanted(by=by):
                self._ends = True
                return self._execution.handle(plan.Stopped(why=f"{by} has stopped it", now=at))
            case Ticked():
                return self._execution.handle(plan.Ticked(now=at))

    def _stands(self, move: MoveRecord) -> Sequence[plan.Command]:
        if move.state not in OVER or (vm := self._under_way.pop(move.id, None)) is None:
            return ()
        return self._over(vm, "" if move.state is State.DONE else move.why or "it was aborted")

    def _over(self, vm: str, why: str) -> Sequence[plan.Command]:
        """A move has ended: badly, if there is a reason."""
        self._ends = self._ends or why != ""
        return self._execution.handle(plan.Ended(machine=vm, well=not why, why=why, now=self._now.timestamp()))

    def _take(self, told: Sequence[plan.Command]) -> plan.Finish | None:
        end = None
        for command in told:
            match command:
                case plan.StartMove():
                    self._wanted[command.move.machine] = _Wanted(command, self._now)
                case plan.Finish():
                    end = command
                case plan.TellLate():
                    pass  # told as long as it is so, see _noted
        return end

    def _next(self, commands: list[Command]) -> str | None:
        """Begin what can, and return the first VM of which it is certain that it cannot move."""
        for vm, wanted in list(self._wanted.items()):
            if self._ends:
                wanted.why = wanted.why or "it has not begun"
                return vm
            move = wanted.start.move
            try:
                source = self._site.origin(vm, move.to)
            except NotNowError as error:
                wanted.why = str(error)
                if self._now - wanted.since >= PATIENCE:
                    return vm
            except CannotMoveError as error:
                wanted.why = str(error)
                return vm
            else:
                if source != move.source:
                    wanted.why = f"it runs at host {source}; when the plan was made, it was at host {move.source}"
                    return vm
                del self._wanted[vm]
                name = move_id(self._id, (wanted.start.round, vm))
                self._under_way[name] = vm
                commands.append(BeginMove(id=name, vm=vm, to=move.to))
        return None

    def _noted(self) -> list[Command]:
        """Say what keeps it from going on, where that is otherwise than it was."""
        if late := sorted(self._execution.late):
            many = f"{late[0]} is" if len(late) == 1 else f"{late[0]} and {len(late) - 1} more are"
            note = f"{many} on the way for more than {self._limits.late_seconds:g} s: nothing else begins meanwhile"
        else:
            note = next((each.why for each in self._wanted.values() if each.why), "")
        if note == self._note:
            return []
        self._note = note
        return [Note(why=note)]
