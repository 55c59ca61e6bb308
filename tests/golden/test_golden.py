"""Every folder beside this file is a case: what goes in, and exactly what has to come out.

Cases about verdicts are asked three times: here the evaluator and the compiled tables, and in
tests/packet/test_golden_verdicts.py the kernel. Those called conformance-* tell again, in this language, what the suites
of Kubernetes' policies check (ClusterNetworkPolicy in its tiers, NetworkPolicy); a comment in each says what, and where
the meaning differs here.
"""

from pathlib import Path

import pytest
import yaml

from golden.answers import CASES, HERE, answer, lines_of, sides_of, world_of
from serai.inventory.files import read_directory
from serai.model.decode import decode, decode_with_places
from serai.model.definitions import DefinitionErrors
from serai.model.policy import Action
from serai.model.records import Step
from serai.policy.compile import compile_host
from serai.policy.lookup import Lookup
from serai.policy.questions.hygiene import Finding, Kind, examine

ERRORS = sorted(HERE.glob("error-*"))
HYGIENE = sorted(HERE.glob("hygiene-*"))

# The two parsers of PyYAML word syntax errors differently; wheels bring the one in C.
NEEDS_C_PARSER = {"error-yaml-syntax", "error-yaml-tab", "error-yaml-surrogate"}


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_every_error_is_one_clear_line(case: Path) -> None:
    if case.name in NEEDS_C_PARSER and not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")
    with pytest.raises(DefinitionErrors) as caught:
        decode(read_directory(case / "in"))
    assert f"{caught.value}\n" == (case / "expected.txt").read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_question_gets_the_written_answer(case: Path) -> None:
    world, expected = world_of(case), lines_of(case)
    answered = [line if line.startswith("#") else answer(world, line.partition(": ")[0]) for line in expected]
    assert answered == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_compiled_tables_say_what_is_written(case: Path) -> None:
    world = world_of(case)
    ruleset = compile_host(world, "host", world.vms)
    lookup, guarded = Lookup(ruleset), {vnic.id: vnic for vnic in ruleset.vnics}
    asked = 0
    for side in sides_of(world, case):
        asked += 1
        found = lookup.decide(guarded[side.vnic.id], side.direction, side.remote, side.protocol, side.port)
        assert found
        said = (found.staged_step, found.staged_rule) if side.staged else (found.step, found.rule)
        assert said == (Step.ACCEPT if side.action is Action.ACCEPT else Step.DENY, side.rule)
    assert asked


@pytest.mark.parametrize("case", HYGIENE, ids=lambda case: case.name)
def test_what_should_be_tidied_up_is_what_is_written(case: Path) -> None:
    found = examine(*decode_with_places(read_directory(case / "in")))
    assert [line for finding in found for line in lines(finding)] == (case / "expected.txt").read_text().splitlines()
    assert case.name.removeprefix("hygiene-") in {finding.kind for finding in found}
    # Near misses are called so.
    assert not any("fine-" in finding.rule for finding in found)


def test_there_is_a_case_for_every_kind_of_finding() -> None:
    assert {case.name.removeprefix("hygiene-") for case in HYGIENE} == set(Kind)


def lines(finding: Finding) -> list[str]:
    """Write a finding in two lines and one more for each other rule."""
    others = [f"    {other.file}:{other.line} {other.rule}" for other in finding.others]
    return [f"{finding.file}:{finding.line} {finding.kind} {finding.rule}", f"    {finding.message}", *others]
