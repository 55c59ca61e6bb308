"""The third opinion on random policies and packets: the kernel's gate, against the evaluator.

The compiled tables are the second: tests/unit/policy/test_agreement.py.
"""

from __future__ import annotations

import random

from conftest import GateUnderTest
from hypothesis import HealthCheck, event, given, settings
from openings import frame
from questions import questions, seeds
from worlds import worlds

from serai.datapath.object import GateObject
from serai.model.policy import Action
from serai.model.reasons import Reason
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import judge_side


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), seeds)
def test_evaluator_and_kernel_agree(loaded_gate: GateObject, world: World, seed: int) -> None:
    gate = GateUnderTest(loaded_gate)
    try:
        for vm, vnic in random.Random(seed).sample(list(world.vnics()), 2):
            gate.guard(world, vm.path, card=vnic.name)
            mine = questions(world, seed, 12, lambda q, vnic=vnic: q.vnic is vnic and q.carried)
            for source, question in enumerate(mine, start=1000):
                decision, staged = (
                    judge_side(world, vm, vnic, *question.asked, staged=staged) for staged in (False, True)
                )
                gate.forget_flows()
                fate = gate.send(question.direction, frame(question, source))
                accepted = decision.action is Action.ACCEPT
                dropped = not accepted and vm.mode is not Mode.OBSERVE
                event(f"{decision.action} IPv{question.remote.version} {vm.mode}")
                assert (fate.passed, fate.reason) == (not dropped, Reason.DENIED if dropped else Reason.NONE)
                rows = gate.denials() if dropped else gate.rows()
                seen = {r.rule: r for r in rows if (r.direction, r.remote, r.protocol, r.port) == question.asked}
                assert decision.ref.id in seen
                assert (seen[decision.ref.id].outcome == "observed") == (not accepted and not dropped)
                if accepted:
                    assert (seen[decision.ref.id].staged == "accepted") == (staged.action is Action.ACCEPT)
    finally:
        gate.clear()
