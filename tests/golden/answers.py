"""Golden cases about verdicts: what is asked in a world, and the answers that stand written beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from serai.inventory.files import read_directory
from serai.model.address import Address
from serai.model.decode import decode
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import Connection, judge
from serai.policy.questions.question import connections, parse_end, parse_service

HERE = Path(__file__).parent
CASES = sorted((*HERE.glob("semantics-*"), *HERE.glob("conformance-*")))
_CITY = HERE / "city.yaml"
"""What all conformance cases are about that bring no ``world.yaml`` of their own."""


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One side of a question, and what is written about it."""

    vm: VirtualMachine
    vnic: Vnic
    direction: Direction
    mine: Address
    remote: Address
    protocol: int
    port: int
    staged: bool
    """Asked as if staged policies were in force."""
    action: Action
    rule: str
    """What decides, by its text."""


def world_of(case: Path) -> World:
    files = dict(read_directory(case / "in"))
    if case.name.startswith("conformance-") and not (case / "in" / "world.yaml").exists():
        files["city.yaml"] = _CITY.read_text()
    return decode(files)


def lines_of(case: Path) -> list[str]:
    """Questions with their answers, and comments."""
    return (case / "expected.txt").read_text().splitlines()


def answer(world: World, question: str) -> str:
    """Write ``[staged] FROM -> TO PORT: egress side; ingress side`` as the tables do."""
    verdict = judge(world, _connection(world, question), staged=question.startswith("staged "))
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


def sides_of(world: World, case: Path) -> Iterator[Side]:
    """Every side of every question of a case that is a VM's, as it is written: nobody is asked."""
    for line in lines_of(case):
        question, _, written = line.partition(": ")
        if line.startswith("#"):
            continue
        c = _connection(world, question)
        ends = ((Direction.EGRESS, c.source, c.destination), (Direction.INGRESS, c.destination, c.source))
        for (direction, mine, remote), said in zip(ends, written.split("; ")[:2], strict=True):
            holder = world.holder(c.routing_domain, mine)
            assert (said == "nobody") == (holder is None)
            if holder:
                action, rule = said.split()[:2]
                yield Side(
                    *holder, direction, mine, remote, c.protocol, c.port, question.startswith("staged "),
                    Action(action), rule,
                )  # fmt: skip


def _connection(world: World, question: str) -> Connection:
    words = question.removeprefix("staged ").split()
    [connection] = connections(parse_end(world, words[0]), parse_end(world, words[2]), *parse_service(words[3]))
    return connection
