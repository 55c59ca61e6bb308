"""Playbooks for carrying a plan out, and that no sequence of ends breaks a rule of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.migration.execution import (
    Begun,
    Ended,
    Event,
    Execution,
    Finish,
    LimitError,
    Limits,
    Outcome,
    Progress,
    StartMove,
    Stopped,
    TellLate,
    Ticked,
)
from serai.migration.plan.answer import Move

Told = str
ROUNDS = (("1 a b", "2 a b", "3 a c", "4 d c"), ("5 a d",))


def plan(*rounds: tuple[str, ...]) -> list[list[Move]]:
    def move(text: str) -> Move:
        machine, source, to = text.split()
        return Move(machine=machine, source=source, to=to)

    return [[move(text) for text in each] for each in rounds]


def well(machine: str, now: float = 1) -> Event:
    return Ended(machine=machine, well=True, now=now)


def badly(machine: str, why: str = "no space", now: float = 1) -> Event:
    return Ended(machine=machine, well=False, why=why, now=now)


def play(execution: Execution, *events: Event) -> list[list[Told]]:
    """Return what is commanded after each event: the VMs that start, and all else in words."""
    told: list[list[Told]] = []
    for event in events:
        said = []
        for command in execution.handle(event):
            match command:
                case StartMove(move=move):
                    said.append(move.machine)
                case TellLate(move=move, seconds=seconds):
                    said.append(f"late {move.machine} {seconds:g}")
                case Finish(outcome=outcome, why=why):
                    said.append(f"{outcome.value} {why}".strip())
        told.append(said)
    return told


START = Begun(now=0)
PLAYBOOKS: dict[str, tuple[Limits, list[Event], list[list[Told]]]] = {
    "all at once, round by round": (
        Limits(together=9, of_a_host=9),
        [START, well("2"), well("1"), well("4"), well("3"), well("5")],
        [["1", "2", "3", "4"], [], [], [], ["5"], ["done"]],
    ),
    "one after the other": (
        Limits(together=1),
        [START, well("1"), well("2"), well("3"), well("4"), well("5")],
        [["1"], ["2"], ["3"], ["4"], ["5"], ["done"]],
    ),
    "who waits for a host lets others pass": (
        Limits(together=9, of_a_host=1),
        [START, well("1"), well("4"), well("2"), well("3"), well("5")],
        [["1", "4"], ["2"], [], ["3"], ["5"], ["done"]],
    ),
    "nothing begins after a failure": (
        Limits(together=2),
        [START, badly("1"), well("2"), Ticked(now=9)],
        [["1", "2"], [], ["failed 1: no space"], []],
    ),
    "the first failure is the one that is told": (
        Limits(together=2),
        [START, badly("1", "lost"), badly("2")],
        [["1", "2"], [], ["failed 1: lost"]],
    ),
    "the last move may fail too": (
        Limits(together=9, of_a_host=9),
        [START, well("1"), well("2"), well("3"), well("4"), badly("5")],
        [["1", "2", "3", "4"], [], [], [], ["5"], ["failed 5: no space"]],
    ),
    "somebody stops it": (
        Limits(together=1),
        [START, Stopped(why="by ann", now=1), well("1")],
        [["1"], [], ["stopped by ann"]],
    ),
    "stopped before it began": (Limits(), [Stopped(why="by ann", now=1)], [["stopped by ann"]]),
    "a failure after it was stopped changes nothing": (
        Limits(together=1),
        [START, Stopped(why="by ann", now=1), badly("1")],
        [["1"], [], ["stopped by ann"]],
    ),
    "an end is told twice": (
        Limits(together=1),
        [START, well("1"), well("1"), badly("1"), well("x")],
        [["1"], ["2"], [], [], []],
    ),
    "a move is late, and others wait": (
        Limits(together=2, late_seconds=10),
        [START, well("1", 4), Ticked(now=9), Ticked(now=10), Ticked(now=13), well("3", 13), well("2", 14)],
        [["1", "2"], ["3"], [], ["late 2 10"], [], [], ["4"]],
    ),
}


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbook(name: str) -> None:
    limits, events, told = PLAYBOOKS[name]
    assert play(Execution(plan(*ROUNDS), limits), *events) == told


def test_an_empty_plan_is_done() -> None:
    assert play(Execution([], Limits()), START, Ticked(now=1)) == [["done"], []]


def test_another_controller_goes_on() -> None:
    """1 is done, 2 is under way: its end comes, or it is late."""
    again = Execution(plan(*ROUNDS), Limits(together=2, late_seconds=10), done={(0, "1")}, under_way={(0, "2")})
    assert again.progress == Progress(done=1, under_way=1, waiting=3)
    assert play(again, Begun(now=100), Ticked(now=109), well("2", 109), well("3", 109)) == [["3"], [], ["4"], []]
    assert again.progress == Progress(done=3, under_way=1, waiting=1)
    assert play(again, well("4", 110), well("5", 110)) == [["5"], ["done"]]


def test_all_was_done_before() -> None:
    done = {(0, "1"), (0, "2"), (0, "3"), (0, "4"), (1, "5")}
    assert play(Execution(plan(*ROUNDS), Limits(), done=done), START) == [["done"]]


def test_a_vm_that_moves_twice_is_not_mistaken() -> None:
    twice = Execution(plan(("1 a b",), ("1 b c",)), Limits(), done={(0, "1")})
    assert play(twice, START) == [["1"]]
    assert twice.progress == Progress(done=1, under_way=1, waiting=0)


@pytest.mark.parametrize("bad", [{"together": 0}, {"of_a_host": 0}, {"late_seconds": 0}])
def test_limits_under_which_nothing_moves_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(LimitError):
        Limits(**bad)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=8), max_size=3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.floats(0, 0.2),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_limits_and_rounds_hold_and_it_ends(
    told: list[list[tuple[str, str]]], together: int, of_a_host: int, bad: float, chance: random.Random
) -> None:
    rounds = [
        [Move(machine=f"{at}.{number}", source=source, to=to + "'") for number, (source, to) in enumerate(moves)]
        for at, moves in enumerate(told)
    ]
    execution = Execution(rounds, Limits(together=together, of_a_host=of_a_host))
    under_way: dict[str, StartMove] = {}
    failed, seen, commands = False, set[str](), execution.handle(START)
    while True:
        starts = [command for command in commands if isinstance(command, StartMove)]
        assert not (starts and failed)
        under_way |= {start.move.machine: start for start in starts}
        seen |= {start.move.machine for start in starts}
        assert len({start.round for start in under_way.values()}) <= 1
        assert len(under_way) <= together
        hosts = [host for start in under_way.values() for host in (start.move.source, start.move.to)]
        assert all(hosts.count(host) <= of_a_host for host in hosts)
        if any(isinstance(command, Finish) for command in commands):
            break
        assert under_way, "it would wait for ever"
        machine = chance.choice(sorted(under_way))
        del under_way[machine]
        ends_well = chance.random() >= bad
        failed |= not ends_well
        commands = execution.handle(Ended(machine=machine, well=ends_well, why="bad luck", now=1))
    assert not under_way
    finish = commands[-1]
    assert isinstance(finish, Finish)
    assert finish.outcome is (Outcome.FAILED if failed else Outcome.DONE)
    assert failed or len(seen) == sum(map(len, rounds)) == execution.progress.done
