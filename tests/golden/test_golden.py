"""Every folder beside this file is a case: what goes in, and exactly what has to come out."""

from pathlib import Path

import pytest
import yaml

from serai.cli.question import connections, parse_end, parse_service
from serai.inventory.files import read_directory
from serai.model.decode import decode
from serai.model.definitions import DefinitionErrors
from serai.model.policy import Action
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import judge

HERE = Path(__file__).parent
ERRORS = sorted(HERE.glob("error-*"))
SEMANTICS = sorted(HERE.glob("semantics-*"))

# The two parsers of PyYAML word syntax errors differently; wheels bring the one in C.
NEEDS_C_PARSER = {"error-yaml-syntax", "error-yaml-tab", "error-yaml-surrogate"}


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_every_error_is_one_clear_line(case: Path) -> None:
    if case.name in NEEDS_C_PARSER and not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML was built without libyaml")
    with pytest.raises(DefinitionErrors) as caught:
        decode(read_directory(case / "in"))
    assert f"{caught.value}\n" == (case / "expected.txt").read_text()


@pytest.mark.parametrize("case", SEMANTICS, ids=lambda case: case.name)
def test_every_question_gets_the_written_answer(case: Path) -> None:
    world = decode(read_directory(case / "in"))
    expected = (case / "expected.txt").read_text().splitlines()
    answered = [line if line.startswith("#") else answer(world, line.partition(": ")[0]) for line in expected]
    assert answered == expected


def answer(world: World, question: str) -> str:
    """Write ``[staged] FROM -> TO PORT: egress side; ingress side`` as the tables do."""
    words = question.removeprefix("staged ").split()
    [connection] = connections(parse_end(world, words[0]), parse_end(world, words[2]), *parse_service(words[3]))
    verdict = judge(world, connection, staged=question.startswith("staged "))
    sides = []
    for end, side in ((verdict.source, verdict.egress), (verdict.destination, verdict.ingress)):
        if end is None or side is None:
            sides.append("nobody")
            continue
        tier = f"{side.tier or '-'}{f' {side.level}' if side.level else ''}"
        passed = f", passed {' '.join(ref.text for ref in side.passed)}" if side.passed else ""
        observed = " (observe)" if side.action is Action.DENY and end[0].mode is Mode.OBSERVE else ""
        sides.append(f"{side.action} {side.ref.text} {tier}{passed}{observed}")
    passes = "; passes" if verdict.passes and verdict.action is Action.DENY else ""
    return f"{question}: {'; '.join(sides)}{passes}"
