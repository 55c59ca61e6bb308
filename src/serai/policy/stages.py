"""In which order rules are asked about one VM and one kind of peer."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from serai.model.inventory import VirtualMachine
from serai.model.policy import Action, Clause, Direction, Peer, Policy, PortRange, RuleRef, Tier
from serai.policy.flatten import Line, Stage

Level = tuple[Policy, ...]
"""Policies of one tier and one level, in the order in which they are asked."""


def levels(policies: Iterable[Policy], vm: VirtualMachine, direction: Direction) -> tuple[Level, ...]:
    """The policies that govern ``vm`` in ``direction``, level by level as they are asked."""
    governing = [p for p in policies if direction in p.rules and p.subject.contains(vm.scope, vm.labels)]

    def level(tier: Tier, scope: str | None = None) -> Level:
        found = (p for p in governing if p.tier is tier and scope in (None, p.scope))
        return tuple(sorted(found, key=lambda p: (p.priority, p.name, p.scope)))

    down = vm.scope.lineage
    asked = (
        *(level(Tier.ADMIN, scope) for scope in down),
        level(Tier.TENANT),
        *(level(Tier.BASELINE, scope) for scope in reversed(down)),
    )
    return tuple(policies for policies in asked if policies)


def stages(asked: Iterable[Level], direction: Direction, met: frozenset[Peer]) -> list[Stage]:
    """What is left of the levels for a peer that is one of each of ``met``."""
    return [_stage(level, direction, met) for level in asked]


def quarantine(direction: Direction, allowed: Collection[Peer]) -> Stage:
    """The one level that is asked about a VM in quarantine.

    Args:
        direction: the side that is judged.
        allowed: those of the site's prefixes for VMs in quarantine that the peer is in.
    """
    lines = (Line(RuleRef.quarantine(direction), Action.ACCEPT, (), staged=False),) if allowed else ()
    return Stage(lines, closes=RuleRef.isolated(direction))


def _stage(level: Level, direction: Direction, met: frozenset[Peer]) -> Stage:
    lines = []
    for policy in level:
        for rule in policy.rules[direction]:
            clauses = [c for c in rule.clauses if c.peer is None or c.peer in met]
            if clauses:
                lines.append(Line(rule.ref, rule.action, _ports(clauses), policy.staged))
    return Stage(
        tuple(lines),
        closes=RuleRef.unmatched(direction) if level[0].tier is Tier.TENANT else None,
        closes_staged=all(policy.staged for policy in level),
    )


def _ports(clauses: Iterable[Clause]) -> tuple[PortRange, ...]:
    """The union of the clauses' ports; one clause that names none stands for every port."""
    each = [clause.ports for clause in clauses]
    return tuple(dict.fromkeys(r for ports in each for r in ports)) if all(each) else ()
