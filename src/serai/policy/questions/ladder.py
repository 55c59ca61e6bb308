"""The levels that a VM asks, as one kind of other end meets them: whose rules are left, and on which ports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from serai.model.policy import Action, Direction, Peer, Policy, Tier
from serai.policy.questions.cells import Cells
from serai.policy.questions.remotes import Kind


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A rule as one kind of other end meets it."""

    rule: str
    """The text of its reference."""
    action: Action
    ports: int
    """A mask of cells; never empty."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One level of one tier, as one kind of other end meets it."""

    tier: Tier
    lines: Sequence[Line]
    closes: bool
    """What matches nothing is denied here."""


class Rung:
    """One level of one tier, prepared for many kinds of other ends."""

    def __init__(
        self,
        policies: Sequence[Policy],
        direction: Direction,
        cells: Cells,
        numbers: Mapping[Peer, int],
        above: Rung | None,
    ) -> None:
        self.tier = policies[0].tier
        self._closes_staged = all(policy.staged for policy in policies)
        self.staged: bool = any(policy.staged for policy in policies) or (above is not None and above.staged)
        """It or a level above it has staged policies."""
        self.told_apart: Kind = above.told_apart if above else 0
        """The peers that it and the levels above it tell apart."""
        self._rules: list[tuple[bool, str, Action, list[tuple[Kind, int]]]] = []
        for policy in policies:
            for rule in policy.rules[direction]:
                clauses = [(1 << numbers[c.peer] if c.peer else 0, cells.of(c.ports)) for c in rule.clauses]
                self._rules.append((policy.staged, rule.ref.text, rule.action, clauses))
                for bit, _ in clauses:
                    self.told_apart |= bit

    def step(self, kind: Kind, *, staged: bool) -> Step:
        """Return what is left for ends of one kind, with or without the staged policies in force."""
        lines = []
        for of_staged, rule, action, clauses in self._rules:
            if of_staged and not staged:
                continue
            ports = 0
            for bit, mask in clauses:
                if not bit or bit & kind:  # no bit: anybody
                    ports |= mask
            if ports:
                lines.append(Line(rule, action, ports))
        return Step(self.tier, lines, self.tier is Tier.TENANT and (staged or not self._closes_staged))
