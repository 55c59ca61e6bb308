"""Policies out of recorded traffic: they admit what was seen, nothing can be left out, and what they admit beyond is told."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from recording import NOW, applied, recorded
from worlds import SCOPES, worlds

from serai.model.policy import Action, Direction, Policy
from serai.model.ports import WITH_PORTS
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.evaluate import judge_side
from serai.policy.match import Remote, matches
from serai.policy.traffic.ends import Finder
from serai.policy.traffic.seen import Conversation
from serai.policy.traffic.suggest import Suggestion, suggest

ANYHOW = settings(max_examples=60, deadline=None)


def accepted(world: World, scope: Scope, conversation: Conversation) -> bool:
    """All sides that are the scope's say yes."""
    ends = Finder(world).find(conversation)
    assert ends
    service = conversation.protocol, conversation.service.first
    sides = ((Direction.EGRESS, ends.source, ends.target), (Direction.INGRESS, ends.target, ends.source))
    return all(
        judge_side(world, *mine.judged, direction, other.address, *service).action is Action.ACCEPT
        for direction, mine, other in sides
        if mine.judged and scope.contains(mine.judged[0].scope)
    )


def suggested(world: World, choice: random.Random) -> tuple[Scope, list[Conversation], Suggestion]:
    scope = choice.choice(SCOPES)
    seen = recorded(world, choice, choice.choice((3, 20, 60)))
    egress = choice.choice((None, None, True))
    return scope, seen, suggest(world, scope, seen, now=NOW, egress=egress)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_what_was_seen_is_admitted(world: World, choice: random.Random) -> None:
    scope, _, found = suggested(world, choice)
    after, _ = applied(world, found.yaml)
    for conversation in found.admitted:
        assert accepted(after, scope, conversation), conversation


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_no_rule_can_be_left_out(world: World, choice: random.Random) -> None:
    scope, _, found = suggested(world, choice)
    after, policies = applied(world, found.yaml)
    for policy in policies:
        for direction, rules in policy.rules.items():
            for rule in rules:
                fewer = {**policy.rules, direction: tuple(r for r in rules if r is not rule)}
                without = dataclasses.replace(
                    after,
                    policies=(
                        *(p for p in after.policies if p is not policy),
                        dataclasses.replace(policy, rules=fewer),
                    ),
                )
                assert not all(accepted(without, scope, c) for c in found.admitted), rule


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_what_is_admitted_beyond_is_counted(world: World, choice: random.Random) -> None:
    scope, _, found = suggested(world, choice)
    after, policies = applied(world, found.yaml)
    assert (found.beyond.vms, found.beyond.addresses) == counted(after, policies, scope, found.admitted)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_for_whom_nothing_is_said_is_told(world: World, choice: random.Random) -> None:
    scope, _, found = suggested(world, choice)
    after, policies = applied(world, found.yaml)
    assert Direction.INGRESS in found.ungoverned
    for direction, paths in found.ungoverned.items():
        subjects = [policy.subject for policy in policies if direction in policy.rules]
        assert list(paths) == sorted(
            path
            for path, vm in after.vms.items()
            if scope.contains(vm.scope) and not any(subject.contains(vm.scope, vm.labels) for subject in subjects)
        )
        told = [note for note in found.notes if note.startswith(f"{direction} of ")]
        assert len(told) == bool(paths)
        assert all(f"# {note}\n" in found.yaml for note in told)
        assert all(path in told[0] for path in paths[:5])


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_nothing(world: World, choice: random.Random) -> None:
    scope, seen, _ = suggested(world, choice)
    turned = dataclasses.replace(world, vms=dict(reversed(world.vms.items())), policies=world.policies[::-1])
    found = suggest(turned, scope, choice.sample(seen, len(seen)), now=NOW)
    assert found.yaml == suggest(world, scope, seen, now=NOW).yaml


def counted(
    world: World, policies: tuple[Policy, ...], scope: Scope, admitted: tuple[Conversation, ...]
) -> tuple[int, int]:
    """Try every VM, every other end and every service that was seen."""
    finder = Finder(world)
    services = {(c.protocol, c.service.first) for c in admitted}
    prefixes = {
        clause.peer.prefix  # type: ignore[union-attr]
        for policy in policies
        for rules in policy.rules.values()
        for rule in rules
        for clause in rule.clauses
        if hasattr(clause.peer, "prefix")
    }
    addresses = {address for prefix in prefixes for address in prefix}
    vms, single = set(), set()
    for path, vm in world.vms.items():
        domains = {vnic.network.routing_domain for vnic in vm.vnics}
        held = [((d, a), holder) for (d, a), holder in finder.holders.items() if d in domains]
        for direction in Direction:
            rules = [
                rule for p in policies if p.subject.contains(vm.scope, vm.labels) for rule in p.rules.get(direction, ())
            ]
            for service in services:
                for (_, address), holder in held:
                    if any(matches(r, Remote(address=address, holder=holder), *service) for r in rules):
                        vms.add((direction, path, holder[0].path, service))
                for address in addresses:
                    if any(matches(r, Remote(address=address, holder=None), *service) for r in rules):
                        single.add((direction, path, address, service))
    vms = {each for each in vms if each[1] != each[2]}
    for c in admitted:
        ends = finder.find(c)
        assert ends
        service = c.protocol, c.service.first
        for direction, mine, other in (
            (Direction.EGRESS, ends.source, ends.target),
            (Direction.INGRESS, ends.target, ends.source),
        ):
            if mine.judged and scope.contains(mine.judged[0].scope):
                if other.holder:
                    vms.discard((direction, mine.judged[0].path, other.holder[0].path, service))
                single.discard((direction, mine.judged[0].path, other.address, service))
    assert WITH_PORTS
    return len(vms), len(single)
