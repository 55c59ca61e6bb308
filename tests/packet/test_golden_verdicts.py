"""The kernel's opinion on the golden cases about verdicts; the evaluator's and the tables' stand in tests/golden."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import GateUnderTest
from openings import frame
from questions import Question

from golden.answers import CASES, Side, sides_of, world_of
from serai.model.policy import Action, RuleRef
from serai.model.reasons import Reason
from serai.model.tenancy import Mode

pytestmark = pytest.mark.kernel


def question_of(side: Side) -> Question:
    return Question(side.vm, side.vnic, side.direction, side.remote, side.protocol, side.port)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gate_does_what_is_written(gate: GateUnderTest, case: Path) -> None:
    world = world_of(case)
    by_vnic: dict[int, list[Side]] = {}
    for side in sides_of(world, case):
        # What a VM sends itself comes by no gate.
        if question_of(side).carried and side.remote not in side.vnic.held:
            by_vnic.setdefault(side.vnic.id, []).append(side)
    assert by_vnic
    for sides in by_vnic.values():
        gate.guard(world, sides[0].vm.path, card=sides[0].vnic.name)
        for source, side in enumerate(sides, start=1000):
            gate.forget()
            question = question_of(side)
            fate = gate.send(side.direction, frame(question, source, side.mine))
            found = [*gate.rows(), *gate.denials()]
            mine = [r for r in found if r.vnic == side.vnic.id]
            [row] = [r for r in mine if (r.direction, r.remote, r.protocol, r.port) == question.asked]
            if side.staged:
                assert row.staged == {Action.ACCEPT: "accepted", Action.DENY: "denied"}[side.action]
                continue
            dropped = side.action is Action.DENY and side.vm.mode is not Mode.OBSERVE
            assert (fate.passed, fate.reason) == (not dropped, Reason.DENIED if dropped else Reason.NONE)
            assert row.rule == RuleRef(side.rule).id
            assert row.outcome == ("denied" if dropped else "observed" if side.action is Action.DENY else "accepted")
