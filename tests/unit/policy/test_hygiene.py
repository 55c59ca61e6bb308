"""What should be tidied up, against the evaluator: on random worlds, at every address and port where anything may change."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from hypothesis import given, settings
from worlds import worlds

from serai.model.address import Address
from serai.model.places import Place, Places
from serai.model.policy import ANY_PROTOCOL, InCidr, PortRange, Rule
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import Decision, judge_side
from serai.policy.questions.hygiene import Kind, examine

UNNAMED = 200
"""A protocol that no rule of the random worlds is about."""
DEAD = {Kind.UNUSED, Kind.DUPLICATE, Kind.CONTRADICTORY, Kind.SHADOWED}


def rules(world: World) -> Iterator[Rule]:
    return (rule for policy in world.policies for rules in policy.rules.values() for rule in rules)


def places(world: World) -> Places:
    return Places(
        rules={rule.ref.text: Place("rules.yaml", at) for at, rule in enumerate(rules(world), 1)},
        policies={f"{p.scope}:{p.name}": Place("policies.yaml", at) for at, p in enumerate(world.policies, 1)},
    )


def findings(world: World) -> dict[str, set[Kind]]:
    """The kinds of findings by rule; what is said of a policy is said of each of its rules."""
    found: dict[str, set[Kind]] = {rule.ref.text: set() for rule in rules(world)}
    for finding in examine(world, places(world)):
        named = (
            {finding.rule} if finding.file == "rules.yaml" else {r for r in found if r.startswith(f"{finding.rule}/")}
        )
        for rule in named:
            found[rule].add(finding.kind)
    return found


def addresses(world: World) -> set[Address]:
    """One of every kind that rules tell apart: each begins at, or behind, a prefix or an address that somebody holds."""
    prefixes = {c.peer.prefix for rule in rules(world) for c in rule.clauses if isinstance(c.peer, InCidr)}
    edges = {ip_address(0), ip_address("::")}
    for held in (a for _, vnic in world.vnics() for a in vnic.held):
        edges |= {held, held + 1}
    for prefix in prefixes:
        edges.add(prefix.network_address)
        if int(prefix.broadcast_address) + 1 < 1 << prefix.max_prefixlen:
            edges.add(prefix.broadcast_address + 1)
    return edges


def services(world: World) -> set[tuple[int, int]]:
    """One port of every kind that rules tell apart."""
    ranges: set[PortRange] = {r for rule in rules(world) for clause in rule.clauses for r in clause.ports}
    return {
        (protocol, edge)
        for protocol in {r.protocol for r in ranges} - {ANY_PROTOCOL} | {UNNAMED}
        for edge in {0} | {e for r in ranges if r.protocol in (protocol, ANY_PROTOCOL) for e in (r.first, r.last + 1)}
        if edge <= 65535
    }


def deciders(said: Decision) -> set[str]:
    return {ref.text for ref in (said.ref, *said.passed)}


def enforced(world: World) -> World:
    """The same world with nobody in quarantine, whom no rule is about for the time being."""
    vms = {path: dataclasses.replace(vm, mode=Mode.ENFORCE) for path, vm in world.vms.items()}
    return dataclasses.replace(world, vms=vms)


def without(world: World, refs: Collection[str]) -> World:
    def pruned(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(rule for rule in rules if rule.ref.text not in refs)

    policies = tuple(
        dataclasses.replace(p, rules={direction: pruned(rules) for direction, rules in p.rules.items()})
        for p in world.policies
    )
    return dataclasses.replace(world, policies=policies)


@settings(max_examples=6, deadline=None)
@given(worlds())
def test_what_is_said_of_rules_is_what_the_evaluator_does(some: World) -> None:
    world = enforced(some)
    found = findings(world)
    decided = defaultdict(list)
    for vm, vnic in world.vnics():
        for direction in {direction for policy in world.policies for direction in policy.rules}:
            for remote in addresses(world):
                for service in services(world):
                    for staged in (False, True):
                        asked = (vm, vnic, direction, remote, *service)
                        said = judge_side(world, *asked, staged=staged)
                        for ref in deciders(said):
                            decided[ref].append((asked, staged, said.action))
    admin = {r.ref.text for p in world.policies if p.tier == "Admin" for rs in p.rules.values() for r in rs}
    dead = {ref for ref, kinds in found.items() if kinds & DEAD}
    for ref, kinds in found.items():
        assert (ref in dead) == (ref not in decided), ref
        assert len(kinds & {*DEAD, Kind.REDUNDANT}) <= 1, ref
        if ref not in decided:
            continue
        tidied = without(world, {ref}), without(world, {ref, *dead})
        changes = [
            any(judge_side(w, *a, staged=s).action is not action for a, s, action in decided[ref]) for w in tidied
        ]
        if Kind.REDUNDANT in kinds:
            assert changes == [False, False], ref
        elif ref not in admin:  # a rule of the Admin tier may be there to make sure of what others say as well
            assert any(changes), ref


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_quarantine_is_looked_through(world: World) -> None:
    assert findings(world) == findings(enforced(world))
