"""Plans that fill hosts equally: against trying everything that can be done in one round."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import World, host, vm, worlds

from bench import tagged
from serai.migration.plan import rebalance
from serai.migration.plan.answer import Plan
from serai.migration.plan.asked import Machine, PlanError, PlanHost, Rebalance
from serai.migration.plan.planner import plan
from serai.migration.plan.proof import faults

goals = st.tuples(st.sampled_from((0.1, 0.25, 0.5)), st.integers(0, 4))


def out_of_bounds(hosts: list[PlanHost], held: dict[str, int], goal: Rebalance) -> int:
    """How much memory is where it should not be, or not where it should, in MiB."""
    pool = [each for each in hosts if each.name in goal.hosts]
    mean = Fraction(sum(held.get(each.name, 0) for each in pool), sum(each.memory_mib for each in pool) or 1)
    within = Fraction(goal.within).limit_denominator(10_000)
    out = 0
    for each in pool:
        there = held.get(each.name, 0)
        out += max(there - math.floor(each.memory_mib * (mean + within)), 0)
        if each.admits:
            out += max(math.ceil(each.memory_mib * (mean - within)) - there, 0)
    return out


def held_after(machines: list[Machine], made: Plan) -> dict[str, int]:
    to = {move.machine: move.to for move in made.moves}
    held: collections.Counter[str] = collections.Counter()
    for machine in machines:
        held[to.get(machine.path, machine.host)] += machine.memory_mib
    return held


def ways(hosts: list[PlanHost], machines: list[Machine], goal: Rebalance) -> Iterator[tuple[int, dict[str, int]]]:
    """Go through all rounds: how many moves each has, and what hosts hold after it."""
    names = [[machine.host, *sorted((machine.allowed & goal.hosts) - {machine.host})] for machine in machines]
    for chosen in product(*(each if each[0] in goal.hosts else each[:1] for each in names)):
        moves = [(m, to) for m, to in zip(machines, chosen, strict=True) if to != m.host]
        if len(moves) > goal.most_moves or not all(_takes(each, machines, moves) for each in hosts):
            continue
        held: collections.Counter[str] = collections.Counter()
        for machine, to in zip(machines, chosen, strict=True):
            held[to] += machine.memory_mib
        yield len(moves), held


def _takes(there: PlanHost, machines: list[Machine], moves: list[tuple[Machine, str]]) -> bool:
    """Say whether all who come have room while those who go are still there."""
    come = [machine for machine, to in moves if to == there.name]
    both = [*come, *(machine for machine in machines if machine.host == there.name)]
    groups = collections.Counter(group for machine in both for group in set(machine.apart))
    return not come or (
        there.admits
        and sum(each.memory_mib for each in both) <= there.memory_mib
        and (sum(each.vnics for each in both) <= there.vnics or not any(each.vnics for each in come))
        and all(groups[group] < 2 for machine in come for group in machine.apart)
    )


@given(worlds(most_vms=6), goals)
@settings(max_examples=150, deadline=None)
def test_the_fewest_moves_that_help_most(world: World, asked: tuple[float, int]) -> None:
    hosts, machines, leave = world
    pool = frozenset(each.name for each in hosts) - (leave.hosts if len(leave.hosts) == 1 else frozenset())
    goal = Rebalance(hosts=pool, within=asked[0], most_moves=asked[1])
    made = plan(hosts, machines, goal)
    assert not faults(hosts, machines, goal, made)
    best = min((out_of_bounds(hosts, held, goal), moves) for moves, held in ways(hosts, machines, goal))
    assert made.proven
    assert (out_of_bounds(hosts, held_after(machines, made), goal), len(made.moves)) == best


def test_of_as_many_moves_those_that_come_nearest_are_made() -> None:
    """Moving the 3 or the 4 keeps within bounds; the 4 makes them equal."""
    hosts = [host("a", 20), host("b", 20)]
    machines = [vm(f"/t:{size}", "a", size, "a b") for size in (3, 4, 5)] + [vm("/t:b", "b", 4, "b")]
    made = plan(hosts, machines, Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=9))
    assert [(move.machine, move.to) for move in made.moves] == [("/t:4", "b")]


def test_less_than_a_vm_out_of_bounds_counts() -> None:
    """Before, a has 2 too many and b lacks 2; after, a lacks 1 and b has 1 too many."""
    hosts = [host("a", 1), host("b", 2)]
    made = plan(hosts, [vm("/t:1", "a", 2, "a b")], Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=1))
    assert [(move.machine, move.to) for move in made.moves] == [("/t:1", "b")]


def test_nothing_moves_where_hosts_are_equal_enough() -> None:
    hosts = [host("a", 10), host("b", 10)]
    machines = [vm("/t:1", "a", 4, "a b"), vm("/t:2", "a", 1, "a b"), vm("/t:3", "b", 4, "a b")]
    goal = Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=9)
    assert plan(hosts, machines, goal) == Plan(rounds=(), proven=True)


def test_a_new_host_gets_its_share_in_a_large_pool() -> None:
    center = tagged.build(hosts=128, vms=40, tenants=2000, fullness=0.7)
    pool = frozenset(name for rack in range(4, 8) for name in center.rack(rack))
    new = min(pool)
    hosts, machines = list(center.hosts), [each for each in center.machines if each.host != new]
    assert len({(m.allowed, m.memory_mib, m.apart) for m in machines}) * len(hosts) > rebalance._SMALL
    unequal = []
    for most_moves in (0, 5, 200):
        goal = Rebalance(hosts=pool, within=0.05, most_moves=most_moves)
        made = plan(hosts, machines, goal)
        assert not faults(hosts, machines, goal, made)
        assert made == plan(hosts[::-1], machines[::-1], goal)
        assert len(made.moves) <= most_moves
        unequal.append(out_of_bounds(hosts, held_after(machines, made), goal))
    assert unequal[0] > unequal[1] > unequal[2] == 0


@pytest.mark.parametrize(("within", "most_moves"), [(0, 1), (1, 1), (-0.1, 1), (0.1, -1)])
def test_what_cannot_be_aimed_for_is_refused(within: float, most_moves: int) -> None:
    with pytest.raises(PlanError, match="take"):
        Rebalance(hosts=frozenset("a"), within=within, most_moves=most_moves)


def test_a_host_that_is_not_there_is_refused() -> None:
    goal = Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=1)
    with pytest.raises(PlanError, match="b is none of the hosts"):
        plan([host("a", 1)], [], goal)


def test_vms_of_hosts_outside_stay() -> None:
    hosts = [host("a", 10), host("b", 10), host("c", 10)]
    machines = [vm(f"/t:{at}", "c" if at else "a", 5, "a b c") for at in range(3)]
    made = plan(hosts, machines, Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=9))
    assert made.moves == ()
    aside = [dataclasses.replace(machine, host="a") for machine in machines[:2]]
    assert len(plan(hosts, aside, Rebalance(hosts=frozenset("ab"), within=0.1, most_moves=9)).moves) == 1
