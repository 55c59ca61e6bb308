"""Two opinions on random policies and connections, the evaluator and the compiled tables; the kernel's is the third.

That one needs root: tests/packet/test_differential.py.
"""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import questions, worlds

from serai.model.policy import Action
from serai.model.ruleset import Step
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.evaluate import judge_side
from serai.policy.lookup import Lookup

STEPS = {Action.ACCEPT: Step.ACCEPT, Action.DENY: Step.DENY}


@settings(max_examples=100, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_evaluator_and_tables_agree(world: World, choice: random.Random) -> None:
    ruleset = compile_host(world, "host", world.vms)
    lookup = Lookup(ruleset)
    guarded = {vnic.id: vnic for vnic in ruleset.vnics}
    for question in choice.sample(questions(world), 300):
        vnic = question.vm.vnics[0]
        found = lookup.decide(guarded[vnic.id], *question.asked)
        now, then = (judge_side(world, question.vm, vnic, *question.asked, staged=staged) for staged in (False, True))
        assert found is not None
        assert (found.step, found.rule) == (STEPS[now.action], now.ref.text)
        assert (found.staged_step, found.staged_rule) == (STEPS[then.action], then.ref.text)


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


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_host_gets_no_more_than_its_vms_can_meet(world: World) -> None:
    acme = [path for path, vm in world.vms.items() if vm.scope.tenant == "acme"]
    alone = compile_host(world, "host", acme)
    globex = {path: vm for path, vm in world.vms.items() if path not in acme}
    without = dataclasses.replace(world, vms={p: vm for p, vm in world.vms.items() if p not in globex})
    assert alone.encode() == compile_host(without, "host", acme).encode()
