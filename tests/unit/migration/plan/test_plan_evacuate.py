"""Plans that empty hosts: against trying everything, and where plain means do not do."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from planning import World, host, most_that_leave, vm, worlds

from bench import tagged
from serai.migration.plan import evacuate
from serai.migration.plan.answer import Plan, Rule
from serai.migration.plan.asked import Evacuate, Machine, PlanError, PlanHost
from serai.migration.plan.planner import plan
from serai.migration.plan.proof import faults


def left(world: World, made: Plan) -> int:
    return sum(machine.host in world[2].hosts for machine in world[1]) - len(made.stuck)


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_as_many_leave_as_can_whatever_is_tried(world: World) -> None:
    made = plan(*world)
    assert not faults(*world, made)
    assert left(world, made) == most_that_leave(world)
    event(f"{len(made.rounds)} rounds")


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_looking_around_makes_sound_plans_too(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evacuate, "_SMALL", 0)
        made = plan(*world)
    assert not faults(*world, made)
    assert not made.proven or left(world, made) == most_that_leave(world)


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_things_are_told_does_not_matter(world: World, chance: random.Random) -> None:
    hosts, machines, goal = world
    made = plan(hosts, machines, goal)
    again = plan(chance.sample(hosts, len(hosts)), chance.sample(machines, len(machines)), goal)
    assert made == again


@given(worlds(), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_a_plan_made_anew_after_some_moves_finishes_the_work(world: World, count: int) -> None:
    hosts, machines, goal = world
    made = plan(hosts, machines, goal)
    done = {move.machine: move.to for move in made.moves[:count]}
    there = [dataclasses.replace(each, host=done.get(each.path, each.host)) for each in machines]
    again = plan(hosts, there, goal)
    assert not faults(hosts, there, goal, again)
    assert len(again.stuck) == len(made.stuck)


def test_all_go_where_there_is_most_room() -> None:
    hosts = [host("a", 8), host("b", 8), host("c", 8)]
    machines = [vm("/t:1", "a", 2, "a b c"), vm("/t:2", "a", 2, "a b c"), vm("/t:3", "b", 3, "a b c")]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert [(move.machine, move.to) for move in made.moves] == [("/t:1", "c"), ("/t:2", "c")]
    assert (len(made.rounds), made.stuck, made.proven) == (1, (), True)


def test_small_vms_are_not_in_the_way_of_large_ones() -> None:
    """First fit by name would put the small ones where alone the large one has room."""
    hosts = [host("a", 9), host("b", 4), host("c", 3)]
    machines = [vm("/t:1", "a", 1, "a b c"), vm("/t:2", "a", 2, "a b c"), vm("/t:3", "a", 4, "a b c")]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert {move.machine: move.to for move in made.moves} == {"/t:1": "c", "/t:2": "c", "/t:3": "b"}


def test_the_solver_packs_what_the_greedy_cannot() -> None:
    """The largest first, to where most room is: 3 and 3 go to different hosts, and there is none for 4 (2 and 2)."""
    hosts = [host("a", 20), host("b", 6), host("c", 8)]
    machines = [vm(f"/t:{at}", "a", size, "a b c") for at, size in enumerate((4, 4, 3, 3))]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert (len(made.moves), made.stuck) == (4, ())


def test_others_make_room_first() -> None:
    """Only b may have the tagged VM, and it is full of one that may be anywhere."""
    hosts = [host("a", 4), host("b", 4), host("c", 4)]
    machines = [vm("/t:tagged", "a", 4, "a b"), vm("/t:any", "b", 4, "a b c")]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert [[(move.machine, move.to) for move in each] for each in made.rounds] == [
        [("/t:any", "c")],
        [("/t:tagged", "b")],
    ]


def test_a_chain_of_three_is_found() -> None:
    hosts = [host("a", 4), host("b", 4), host("c", 4), host("d", 4)]
    machines = [vm("/t:1", "a", 4, "b"), vm("/t:2", "b", 4, "c"), vm("/t:3", "c", 4, "d")]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert [move.machine for move in made.moves] == ["/t:3", "/t:2", "/t:1"]
    assert len(made.rounds) == 3


def test_two_that_would_have_to_change_places_use_a_third_host() -> None:
    hosts = [host("a", 2), host("b", 4), host("c", 4), host("d", 2)]
    machines = [
        vm("/t:1", "a", 2, "c"),
        vm("/t:2", "c", 2, "b d"),
        vm("/t:3", "c", 2, "c"),
        vm("/t:4", "b", 4, "b"),
    ]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert not made.stuck
    assert [move.machine for move in made.moves] == ["/t:2", "/t:1"]


def test_who_cannot_move_is_told_why_and_the_others_move() -> None:
    hosts = [host("a", 99), host("b", 8), host("c", 4, vnics=1), host("d", 9, admits=False), host("e", 9)]
    machines = [
        vm("/t:moves", "a", 2, "a b c d e"),
        vm("/t:nowhere", "a", 1, "a"),
        vm("/t:unasked", "a", 1, ""),
        vm("/t:refused", "a", 1, "a d"),
        vm("/t:large", "a", 9, "b c d"),
        vm("/t:many", "a", 1, "a c", vnics=2),
        vm("/t:apart-1", "a", 1, "e", ("db",)),
        vm("/t:apart-2", "e", 1, "e", ("db",)),
        vm("/t:pinned", "e", 1, "e"),
    ]
    goal = Evacuate(hosts=frozenset("a"))
    made = plan(hosts, machines, goal)
    assert not faults(hosts, machines, goal, made)
    assert [move.machine for move in made.moves] == ["/t:moves"]
    assert made.proven
    told = {stuck.machine: [(block.rule, block.hosts) for block in stuck.blocks] for stuck in made.stuck}
    assert told == {
        "/t:nowhere": [(Rule.PLACEMENT, ("a",))],
        "/t:unasked": [(Rule.PLACEMENT, ())],
        "/t:refused": [(Rule.ADMISSION, ("d",))],
        "/t:large": [(Rule.ADMISSION, ("d",)), (Rule.MEMORY, ("b", "c"))],
        "/t:many": [(Rule.VNICS, ("c",))],
        "/t:apart-1": [(Rule.APART, ("e",))],
    }
    why = {stuck.machine: [block.why for block in stuck.blocks] for stuck in made.stuck}
    assert why["/t:nowhere"] == ["all hosts that it may run on are to become empty: a"]
    assert why["/t:unasked"] == ["it may run on no host"]
    assert why["/t:apart-1"] == ["kept apart by db from /t:apart-2"]
    assert why["/t:large"][1] == "needs 9 MiB of memory; no more than 6 are free on any of these"


def test_flows_need_room_where_they_are_limited() -> None:
    hosts = [host("a", 9), host("b", 9, flows=100), host("c", 9)]
    machines = [dataclasses.replace(vm(f"/t:{at}", "a", 1, "a b"), flows=60) for at in range(2)]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert [move.to for move in made.moves] == ["b"]
    assert [block.rule for stuck in made.stuck for block in stuck.blocks] == [Rule.FLOWS]


def test_a_host_that_holds_too_much_is_left_and_not_filled() -> None:
    hosts = [host("a", 4), host("b", 2), host("c", 4)]
    machines = [vm("/t:1", "a", 1, "a b c"), vm("/t:2", "b", 3, "b"), vm("/t:3", "c", 4, "c")]
    made = plan(hosts, machines, Evacuate(hosts=frozenset("a")))
    assert [block.hosts for block in made.stuck[0].blocks] == [("b", "c")]


def test_nothing_is_to_be_done() -> None:
    hosts = [host("a", 4), host("b", 4)]
    empty = Plan(rounds=(), proven=True)
    assert plan(hosts, [], Evacuate(hosts=frozenset("a"))) == empty
    assert plan(hosts, [vm("/t:1", "b", 1, "b")], Evacuate(hosts=frozenset("a"))) == empty


@pytest.mark.parametrize(
    ("hosts", "machines", "goal", "message"),
    [
        (
            [host("a", 4)],
            [vm("/t:1", "b", 1, "a")],
            "a",
            "VM /t:1 runs on b, which is none of the hosts: name all of them",
        ),
        ([host("a", 4), host("a", 3)], [], "a", "host a is there twice: name each once"),
        ([host("a", 4)], [vm("/t:1", "a", 1, "a")] * 2, "a", "VM /t:1 is there twice: name each once"),
        ([host("a", 4)], [], "b", "b is none of the hosts: name one that is there"),
        ([host("a", 4)], [vm("/t:1", "a", -1, "a")], "a", "VM /t:1 needs less than nothing"),
        ([host("a", -4)], [], "a", "host a has room for less than nothing"),
    ],
)
def test_what_cannot_be_is_refused(hosts: list[PlanHost], machines: list[Machine], goal: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(hosts, machines, Evacuate(hosts=frozenset(goal.split())))


@pytest.mark.parametrize(
    ("fullness", "rack", "rounds", "stuck"), [(0.66, 0, 1, 0), (0.66, 2, 2, 0), (0.78, 1, 2, 0), (0.74, 2, 2, 14)]
)
def test_racks_of_a_tagged_data_center_are_emptied(fullness: float, rack: int, rounds: int, stuck: int) -> None:
    center = tagged.build(hosts=256, vms=20, tenants=1200, fullness=fullness)
    goal = Evacuate(hosts=center.rack(rack))
    made = plan(center.hosts, center.machines, goal)
    assert not faults(center.hosts, center.machines, goal, made)
    assert (len(made.rounds), len(made.stuck), made.proven) == (rounds, stuck, True)
    assert made == plan(center.hosts, center.machines[::-1], goal)


@pytest.mark.parametrize("rack", range(4))
def test_what_can_be_done_in_a_full_data_center_is_done_soundly(rack: int) -> None:
    center = tagged.build(hosts=256, vms=20, tenants=1200, fullness=0.9)
    goal = Evacuate(hosts=center.rack(rack))
    made = plan(center.hosts, center.machines, goal)
    assert made.moves
    assert made.stuck
    assert not faults(center.hosts, center.machines, goal, made)
