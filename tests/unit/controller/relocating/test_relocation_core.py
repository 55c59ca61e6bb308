"""Playbooks for carrying a relocation out, and that one which dies at any moment and is begun anew does what one does that lives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databases import NOW
from serai.controller.moves.turns import CannotMoveError, NotNowError
from serai.controller.relocating.core import PATIENCE, RelocationCore
from serai.controller.relocating.events import (
    BeginMove,
    Begun,
    Command,
    End,
    Event,
    MoveRefused,
    MoveStands,
    Note,
    StopWanted,
    Ticked,
)
from serai.migration.execution import Limits
from serai.migration.plan.answer import Move
from serai.migration.relocation import Standing, move_id
from serai.migration.states import State
from serai.store.records import MoveRecord

ID = "0" * 32
ROUNDS = (("1 a b", "2 a b", "3 a c"), ("4 a c", "1 b d"))


class Known:
    """Where VMs are, and what speaks against their moves."""

    def __init__(self, rounds: Sequence[Sequence[Move]]) -> None:
        self.at = {move.machine: move.source for moves in reversed(rounds) for move in moves}
        self.against: dict[str, CannotMoveError] = {}

    def origin(self, path: str, to: str) -> str:
        del to
        if path in self.against:
            raise self.against[path]
        return self.at[path]


def plan(*rounds: tuple[str, ...]) -> list[list[Move]]:
    split = [[text.split() for text in each] for each in rounds]
    return [[Move(machine=vm, source=source, to=to) for vm, source, to in each] for each in split]


class Play:
    """A core, and what it has written down: another can be begun with that."""

    def __init__(self, rounds: Sequence[Sequence[Move]], limits: Limits) -> None:
        self.rounds, self.limits = rounds, limits
        self.site = Known(rounds)
        self.moves: dict[str, MoveRecord] = {}
        self.note = ""
        self.stop: str | None = None
        self.end: End | None = None
        self.now = NOW
        self.core = self.new()

    def new(self) -> RelocationCore:
        return RelocationCore(
            ID,
            self.rounds,
            self.limits,
            begun=list(self.moves.values()),
            stop=self.stop,
            note=self.note,
            site=self.site,
        )

    def happen(self, event: Event) -> str:
        """Let something happen; return what is done about it, in words."""
        if isinstance(event, StopWanted):
            self.stop = event.by
        return " ".join(self._done(each) for each in self.core.handle(event, self.now))

    def _done(self, command: Command) -> str:
        assert self.end is None, "it is over"
        match command:
            case BeginMove():
                assert command.id not in self.moves, "it has begun already"
                self.moves[command.id] = MoveRecord(
                    number=len(self.moves) + 1, id=command.id, vm=command.vm, to=command.to, by="ada", asked=NOW, epoch=1,
                    state=State.WAITING, since=NOW, relocation=ID,
                )  # fmt: skip
                return command.vm
            case Note(why=why):
                self.note = why
                return f"({why})"
            case End(state=state, why=why):
                self.end = command
                return f"{state} {why}".strip()

    def open(self) -> list[MoveRecord]:
        return [move for move in self.moves.values() if move.state not in {State.DONE, State.ABORTED}]

    def over(self, vm: str, why: str = "") -> MoveRecord:
        """A move ends; nobody has been told yet."""
        [move] = [each for each in self.open() if each.vm == vm]
        ended = dataclasses.replace(move, state=State.ABORTED if why else State.DONE, why=why)
        self.moves[move.id] = ended
        if not why:
            self.site.at[vm] = move.to
        return ended

    def ends(self, vm: str, why: str = "") -> str:
        return self.happen(MoveStands(move=self.over(vm, why)))


def begun(*rounds: tuple[str, ...], together: int = 2, of_a_host: int = 2, late: float = 900) -> Play:
    return Play(plan(*rounds or ROUNDS), Limits(together=together, of_a_host=of_a_host, late_seconds=late))


def test_it_is_done_round_by_round() -> None:
    at = begun()
    assert at.happen(Begun()) == "1 2"
    assert at.ends("2") == "3"
    assert at.ends("3") == ""
    assert at.ends("1") == "4 1"
    assert at.ends("1") == ""
    assert at.ends("4") == "done"
    ids = [move_id(ID, key) for key in ((0, "1"), (0, "2"), (0, "3"), (1, "4"), (1, "1"))]
    assert list(at.moves) == ids
    assert len(set(ids)) == 5


def test_nothing_begins_after_a_move_has_failed() -> None:
    at = begun()
    at.happen(Begun())
    assert at.ends("1", "host b: no port is free") == ""
    assert at.happen(Ticked()) == ""
    assert at.ends("2") == "failed 1: host b: no port is free"


def test_it_is_stopped() -> None:
    at = begun()
    at.happen(Begun())
    assert at.happen(StopWanted(by="bob")) == ""
    assert at.happen(StopWanted(by="bob")) == ""
    assert at.ends("1") == ""
    assert at.ends("2", "lost") == "stopped bob has stopped it"
    assert at.happen(StopWanted(by="bob")) == ""


def test_an_end_is_told_twice() -> None:
    at = begun(together=1)
    at.happen(Begun())
    ended = at.over("1")
    assert at.happen(MoveStands(move=dataclasses.replace(ended, state=State.COPIED))) == ""
    assert at.happen(MoveStands(move=ended)) == "2"
    assert at.happen(MoveStands(move=ended)) == ""


def test_a_vm_that_somebody_moves_already_fails_it() -> None:
    at = begun()
    at.happen(Begun())
    first = next(iter(at.moves))
    del at.moves[first]  # it was not written down
    assert at.happen(MoveRefused(vm="1", why="1 is being moved to host c already")) == ""
    assert first not in at.core.under_way
    assert at.ends("2") == "failed 1: 1 is being moved to host c already"


def test_rules_that_forbid_a_move_fail_it() -> None:
    at = begun()
    at.site.against["2"] = CannotMoveError("2 may not run at host b: it has tag pci")
    assert at.happen(Begun()) == "1"
    assert at.ends("1") == "failed 2: 2 may not run at host b: it has tag pci"


def test_a_vm_that_is_not_where_the_plan_had_it_fails_it() -> None:
    at = begun()
    at.site.at["1"] = "c"
    assert at.happen(Begun()) == "failed 1: it runs at host c; when the plan was made, it was at host a"


def test_hosts_may_come_back() -> None:
    at = begun()
    at.site.against["1"] = NotNowError("host b is not connected")
    assert at.happen(Begun()) == "2 (host b is not connected)"
    at.now += PATIENCE - timedelta(seconds=1)
    assert at.happen(Ticked()) == ""
    del at.site.against["1"]
    assert at.happen(Ticked()) == "1 ()"


def test_hosts_that_do_not_come_back_fail_it() -> None:
    at = begun()
    at.site.against["1"] = NotNowError("host b is not connected")
    at.happen(Begun())
    at.now += PATIENCE
    assert at.happen(Ticked()) == "()"
    assert at.ends("2") == "failed 1: host b is not connected"


def test_whom_it_waits_for_does_not_move_after_a_stop() -> None:
    at = begun(together=1)
    at.site.against["1"] = NotNowError("host b is not connected")
    assert at.happen(Begun()) == "(host b is not connected)"
    assert at.happen(StopWanted(by="bob")) == "stopped bob has stopped it"


def test_what_is_late_is_told_as_long_as_it_is() -> None:
    at = begun(late=10)
    at.happen(Begun())
    at.now += timedelta(seconds=11)
    said = "on the way for more than 10 s: nothing else begins meanwhile"
    assert at.happen(Ticked()) == f"(1 and 1 more are {said})"
    assert at.ends("1") == f"(2 is {said})"
    assert at.ends("2") == "3 ()"


def test_an_empty_plan_is_done() -> None:
    assert Play([], Limits()).happen(Begun()) == "done"


# One that is begun anew


def test_what_was_aborted_while_nobody_led_fails_it() -> None:
    at = begun()
    at.happen(Begun())
    at.over("1", "somebody has aborted it")
    at.over("2")
    at.core = at.new()
    assert at.happen(Begun()) == "failed 1: somebody has aborted it"


def test_who_leads_anew_begins_nothing_of_what_was_stopped() -> None:
    at = begun()
    at.happen(Begun())
    at.over("1")
    at.stop = "bob"
    at.core = at.new()
    assert at.happen(Begun()) == ""
    assert at.ends("2") == "stopped bob has stopped it"


@pytest.mark.parametrize("dies", range(12))
def test_one_that_dies_goes_on(dies: int) -> None:
    """It dies before the ``dies``-th thing that happens."""
    at = begun()
    at.happen(Begun())
    for step in range(12):
        if step == dies and at.end is None:
            at.core = at.new()
            at.happen(Begun())
        if at.open():
            at.ends(at.open()[0].vm)
    assert at.end == End(state=Standing.DONE, why="")
    assert [move.vm for move in at.moves.values()] == ["1", "2", "3", "4", "1"]


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=5, unique=True), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["well"] * 6 + ["badly", "stop", "unheard"]), st.booleans()),
        max_size=40,
    ),
)
@settings(max_examples=300, deadline=None)
def test_whenever_it_dies_nothing_begins_twice_and_it_ends_alike(
    told: list[list[int]], together: int, of_a_host: int, story: list[tuple[int, str, bool]]
) -> None:
    """Moves end well or badly, with nobody there to hear it sometimes; it is begun anew now and then."""
    rounds = [
        [Move(machine=f"vm{number}", source=f"h{at}", to=f"h{at + 1}") for number in numbers]
        for at, numbers in enumerate(told)
    ]
    at = Play(rounds, Limits(together=together, of_a_host=of_a_host))
    at.site.origin = lambda path, to: _source(rounds, at, path, to)  # type: ignore[method-assign]
    at.happen(Begun())
    failed = stopped = False
    for which, what, dies in [*story, *[(0, "well", False)] * 20]:
        began = len(at.moves)
        if what == "stop" and at.end is None:
            stopped = True
            at.happen(StopWanted(by="bob"))
        elif at.open():
            vm = at.open()[which % len(at.open())].vm
            why = "bad luck" if what == "badly" else ""
            if what == "unheard":
                at.over(vm)
            else:
                at.ends(vm, why)
            failed |= bool(why)
        if stopped or failed:
            assert len(at.moves) == began, "nothing begins any more"
        if (dies or what == "unheard") and at.end is None:
            at.core = at.new()
            at.happen(Begun())
        on = at.open()
        assert len(on) <= together
        hosts = [host for move in on for host in _ends_of(rounds, move)]
        assert all(hosts.count(host) <= of_a_host for host in hosts)
    assert at.end is not None
    assert not at.open()
    total = sum(map(len, rounds))
    done = sum(move.state is State.DONE for move in at.moves.values())
    if at.end.state is Standing.DONE:
        assert done == total
    else:
        assert failed or stopped
    assert failed or stopped or at.end.state is Standing.DONE


def _ends_of(rounds: list[list[Move]], move: MoveRecord) -> tuple[str, str]:
    [key] = [
        (each.source, each.to)
        for at, moves in enumerate(rounds)
        for each in moves
        if move_id(ID, (at, each.machine)) == move.id
    ]
    return key


def _source(rounds: list[list[Move]], at: Play, path: str, to: str) -> str:
    del at
    return next(move.source for moves in rounds for move in moves if (move.machine, move.to) == (path, to))
