"""What checks plans finds every fault that is put into one."""

from __future__ import annotations

import dataclasses

import pytest
from planning import host, vm

from serai.migration.plan.answer import Block, Move, Plan, Rule, Stuck
from serai.migration.plan.asked import Evacuate, Goal, Rebalance
from serai.migration.plan.planner import plan
from serai.migration.plan.proof import faults

HOSTS = [host("a", 8), host("b", 6, vnics=3), host("c", 4, flows=9), host("d", 9, admits=False), host("e", 3)]
MACHINES = [
    vm("/t:1", "a", 4, "a b"),
    vm("/t:2", "a", 2, "a b c", ("db",)),
    vm("/t:3", "c", 1, "b c e", ("db",)),
    vm("/t:4", "b", 3, "b c d e"),
    vm("/t:5", "a", 1, "a"),
    dataclasses.replace(vm("/t:6", "e", 1, "c e"), flows=10),
]
GOAL = Evacuate(hosts=frozenset("a"))
PLAN = plan(HOSTS, MACHINES, GOAL)
FIRST, SECOND = Move(machine="/t:4", source="b", to="c"), Move(machine="/t:1", source="a", to="b")


def moves(*rounds: tuple[Move, ...]) -> Plan:
    return Plan(rounds=rounds, proven=False)


def said(machine: str, source: str, to: str) -> Plan:
    return moves((Move(machine=machine, source=source, to=to),))


def test_a_sound_plan_has_no_faults() -> None:
    assert [FIRST in PLAN.rounds[0], SECOND in PLAN.rounds[1]] == [True, True]
    assert [stuck.machine for stuck in PLAN.stuck] == ["/t:5"]
    assert faults(HOSTS, MACHINES, GOAL, PLAN) == []


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (moves((SECOND, FIRST)), "/t:1 from a to b: memory"),
        (moves((FIRST, SECOND)), "/t:1 from a to b: memory"),
        (moves((FIRST,), (FIRST,)), "/t:4 from b to c: it is at c"),
        (moves((FIRST, Move(machine="/t:4", source="c", to="b"))), "/t:4 from c to b: it moves twice in a round"),
        (said("/t:4", "b", "b"), "/t:4 from b to b: that is no move"),
        (said("/t:4", "b", "x"), "/t:4 from b to x: there is no such VM, or no such host"),
        (said("/t:x", "b", "c"), "/t:x from b to c: there is no such VM, or no such host"),
        (said("/t:4", "b", "a"), "/t:4 from b to a: that host is to become empty"),
        (said("/t:1", "a", "c"), "/t:1 from a to c: placement"),
        (said("/t:4", "b", "d"), "/t:4 from b to d: admission"),
        (said("/t:2", "a", "c"), "/t:2 from a to c: apart"),
        (said("/t:6", "e", "c"), "/t:6 from e to c: flows"),
        (said("/t:4", "b", "e"), "/t:4 from b to e: memory"),
        (moves(), "/t:1 stays, and nothing is said about it"),
    ],
)
def test_a_bad_move_is_found(made: Plan, fault: str) -> None:
    assert fault in faults(HOSTS, MACHINES, GOAL, made)


def test_vnics_are_counted() -> None:
    machines = [*MACHINES, vm("/t:7", "c", 0, "b c", vnics=3)]
    assert "/t:7 from c to b: vnics" in faults(HOSTS, machines, GOAL, said("/t:7", "c", "b"))


@pytest.mark.parametrize(
    ("stuck", "fault"),
    [
        ((), "/t:5 stays, and nothing is said about it"),
        ((*PLAN.stuck, Stuck(machine="/t:1", blocks=())), "/t:1 is said to stay, and does not"),
        ((Stuck(machine="/t:5", blocks=()),), "/t:5: no rule is said to block it"),
    ],
)
def test_what_is_said_about_who_stays_is_compared(stuck: tuple[Stuck, ...], fault: str) -> None:
    assert fault in faults(HOSTS, MACHINES, GOAL, dataclasses.replace(PLAN, stuck=stuck))


def test_who_could_move_is_not_stuck() -> None:
    block = Block(rule=Rule.MEMORY, hosts=("b",), why="")
    made = Plan(rounds=(), proven=False, stuck=(Stuck(machine="/t:2", blocks=(block,)),))
    found = faults(HOSTS, MACHINES, GOAL, made)
    assert "/t:2 is said to be stuck, and could move to b" in found
    assert "/t:2: nothing is said about c" in found


@pytest.mark.parametrize(
    ("made", "most", "fault"),
    [
        (moves((FIRST,)), 0, "1 moves are more than 0"),
        (said("/t:3", "c", "e"), 1, "/t:3 from c to e: that is not among the hosts that are to be filled equally"),
    ],
)
def test_moves_that_rebalance_are_few_and_stay_within(made: Plan, most: int, fault: str) -> None:
    goal: Goal = Rebalance(hosts=frozenset("bc"), within=0.1, most_moves=most)
    assert fault in faults(HOSTS, MACHINES, goal, made)
