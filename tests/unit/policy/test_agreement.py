"""Two opinions on random policies and connections, the evaluator and the compiled tables; the kernel's is the third.

That one needs root: tests/packet/test_differential.py.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np
from histories import History, histories
from hypothesis import event, given, settings
from hypothesis import strategies as st
from questions import questions, seeds
from tenants import tenants
from updates import apply, placement, split
from worlds import worlds

from serai.model.address import Address, pack
from serai.model.inventory import Mac, VnicId
from serai.model.policy import Action, Direction
from serai.model.ruleset import TABLES, GuardedVnic, HostRuleset, Step
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.evaluate import judge_side
from serai.policy.lookup import Lookup
from serai.policy.verdicts import Verdicts

STEPS = {Action.ACCEPT: Step.ACCEPT, Action.DENY: Step.DENY}


@settings(max_examples=100, deadline=None)
@given(worlds(), seeds)
def test_evaluator_and_tables_agree(world: World, seed: int) -> None:
    agree(world, seed, 250)


@settings(max_examples=20, deadline=None)
@given(tenants(), seeds)
def test_evaluator_and_tables_agree_about_tenants_of_one_shape(world: World, seed: int) -> None:
    agree(world, seed, 150)


def agree(world: World, seed: int, count: int) -> None:
    ruleset = compile_host(world, "host", world.vms)
    lookup = Lookup(ruleset)
    guarded = {vnic.id: vnic for vnic in ruleset.vnics}
    for question in questions(world, seed, count):
        vm, vnic = question.vm, question.vnic
        found = lookup.decide(guarded[vnic.id], *question.asked)
        now, then = (judge_side(world, vm, vnic, *question.asked, staged=staged) for staged in (False, True))
        assert found is not None
        assert (found.step, found.rule) == (STEPS[now.action], now.ref.text)
        assert (found.staged_step, found.staged_rule) == (STEPS[then.action], then.ref.text)
        event(f"{now.tier or now.ref.text.partition('/')[0]}{' passed' if now.passed else ''}")


@settings(max_examples=60, deadline=None)
@given(worlds(), seeds)
def test_what_is_said_of_many_at_once_is_what_is_said_of_each(world: World, seed: int) -> None:
    ruleset = compile_host(world, "host", world.vms)
    lookup = Lookup(ruleset)
    asked: dict[VnicId, list[tuple[Direction, Address, int, int]]] = {}
    for question in questions(world, seed, 250):
        asked.setdefault(question.vnic.id, []).append(question.asked)
    for vnic in ruleset.vnics:
        mine = asked.get(vnic.id, [])
        accepted = Verdicts(ruleset, vnic).accepts(
            np.array([direction is Direction.INGRESS for direction, *_ in mine], "u1"),
            np.array([list(pack(remote)) for _, remote, *_ in mine], "u1").reshape(-1, 16),
            np.array([protocol for *_, protocol, _ in mine], "u1"),
            np.array([port for *_, port in mine], "<u2"),
        )
        found = [lookup.decide(vnic, *each) for each in mine]
        assert accepted.tolist() == [each is not None and each.step is Step.ACCEPT for each in found]
        event(f"{sum(accepted.tolist()) > 0} and {sum(accepted.tolist()) < len(mine)}")


def test_where_nothing_is_written_nothing_is_accepted() -> None:
    vnic = GuardedVnic(
        id=VnicId(1), path="/acme:vm/eth0", mac=Mac("52:54:00:00:00:01"), addresses=(), mode=Mode.ENFORCE, view=1, members=2, egress=3,
        ingress=4,
    )  # fmt: skip
    empty = HostRuleset.whole(host="a", vnics=[vnic], rules=(), tables={n: np.empty(0, d) for n, d in TABLES.items()})
    remotes = np.zeros((2, 16), "u1")
    assert not Verdicts(empty, vnic).accepts(np.array([0, 1]), remotes, np.array([6, 17]), np.array([80, 53])).any()
    lists = np.zeros(1, TABLES["lists"])  # a list that leads nowhere
    lists["ruleset"] = 3
    led = HostRuleset.whole(
        host="a",
        vnics=[vnic],
        rules=(),
        tables={n: lists if n == "lists" else np.empty(0, d) for n, d in TABLES.items()},
    )
    assert not Verdicts(led, vnic).accepts(np.array([0, 1]), remotes, np.array([6, 17]), np.array([80, 53])).any()


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_order_of_arrival_is_nothing(world: World, choice: random.Random) -> None:
    def shuffled(items: list) -> list:
        return choice.sample(items, len(items))

    other = dataclasses.replace(
        world, vms=dict(shuffled(list(world.vms.items()))), policies=tuple(shuffled(list(world.policies)))
    )
    vms = sorted(world.vms)[:4]
    assert compile_host(world, "host", vms).encode() == compile_host(other, "host", shuffled(vms)).encode()


@settings(max_examples=20, deadline=None)
@given(histories())
def test_a_history_compiles_to_what_its_last_world_does(history: History) -> None:
    """In smaller steps things come back in another order; what hosts are sent is the same."""
    last, other = history.last, apply(history.world, split(history.updates))
    event("things came back" if any(update.parts for update in history.updates) else "only what is new")
    for host, vms in placement(last).items():
        assert compile_host(last, host, vms).encode() == compile_host(other, host, vms).encode()


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_host_gets_no_more_than_its_vms_can_meet(world: World) -> None:
    acme = [path for path, vm in world.vms.items() if vm.scope.tenant == "acme"]
    met = {vnic.network.routing_domain for path in acme for vnic in world.vms[path].vnics}
    near = {
        path: dataclasses.replace(vm, vnics=tuple(v for v in vm.vnics if v.network.routing_domain in met))
        for path, vm in world.vms.items()
    }
    without = dataclasses.replace(world, vms={path: vm for path, vm in near.items() if vm.vnics})
    event(f"leaves out {len(list(world.vnics())) - len(list(without.vnics()))} vNICs of {len(list(world.vnics()))}")
    alone = compile_host(world, "host", acme)
    assert alone.encode() == compile_host(without, "host", acme).encode()
