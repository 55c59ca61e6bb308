"""What was passed over, against the evaluator and a plain listing of the rules in their order."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import Question, questions, seeds
from worlds import worlds

from serai.inventory.files import load
from serai.model.policy import Direction, Policy, Rule, RuleRef, Tier
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import judge_side
from serai.policy.match import Remote, has_port, is_peer
from serai.policy.questions.account import Account, Why, account

EXAMPLE = load(Path(__file__).parents[3] / "examples/datacenter")


def in_order(world: World, question: Question) -> list[tuple[Policy, Rule]]:
    """Every rule for the VM, as docs/POLICY.md has the order."""
    depth = {Tier.ADMIN: 1, Tier.TENANT: 0, Tier.BASELINE: -1}

    def place(policy: Policy) -> tuple[int, int, int, str, str]:
        levels_down = len(policy.scope.parts) * depth[policy.tier]
        return list(Tier).index(policy.tier), levels_down, policy.priority, policy.name, policy.scope

    vm = question.vm
    mine = [p for p in world.policies if question.direction in p.rules and p.subject.contains(vm.scope, vm.labels)]
    return [(policy, rule) for policy in sorted(mine, key=place) for rule in policy.rules[question.direction]]


@settings(max_examples=100, deadline=None)
@given(worlds(), seeds, st.booleans())
def test_with_the_decider_they_are_all_rules_up_to_it(world: World, seed: int, staged: bool) -> None:  # noqa: FBT001
    for question in questions(world, seed, 60):
        vnic = question.vnic
        said = judge_side(world, question.vm, vnic, *question.asked, staged=staged)
        found = account(world, question.vm, vnic, *question.asked, staged=staged)
        rules = in_order(world, question)
        refs = [rule.ref for _, rule in rules]
        passed_over = [each.ref for each in found.passed_over]
        unasked = {each.tier for each in found.unasked}
        if said.level is not None:
            assert [*passed_over, said.ref] == refs[: refs.index(said.ref) + 1]
        else:
            assert passed_over == [rule.ref for policy, rule in rules if policy.tier not in unasked]
        asked_last = said.tier if said.level is not None or said.tier else None
        behind = list(Tier)[list(Tier).index(asked_last) + 1 :] if asked_last else []
        expected = list(Tier) if question.vm.mode is Mode.ISOLATE else behind
        assert unasked == {policy.tier for policy, _ in rules if policy.tier in expected}
        assert tuple(each.ref for each in found.passed_over if each.why is Why.PASS) == said.passed
        reasons_hold(world, question, found, dict(zip(refs, rules, strict=True)), staged=staged)


def reasons_hold(
    world: World, question: Question, found: Account, rules: dict[RuleRef, tuple[Policy, Rule]], *, staged: bool
) -> None:
    remote = Remote(address=question.remote, holder=world.holder(question.vnic.network.routing_domain, question.remote))
    for each in found.passed_over:
        policy, rule = rules[each.ref]
        assert (each.why is Why.STAGED) == (policy.staged and not staged)
        fits = [
            (is_peer(clause.peer, remote), has_port(clause, question.protocol, question.port))
            for clause in rule.clauses
        ]
        peer, port = any(p for p, _ in fits), any(s for _, s in fits)
        match each.why:
            case Why.PASS:
                assert (True, True) in fits
            case Why.LEFT:
                assert each.by in {other.ref for other in found.passed_over if other.why is Why.PASS}
            case Why.OTHER_PORTS:
                assert peer
                assert (True, True) not in fits
                assert not any(ports.contains(question.protocol, question.port) for ports in each.ports)
            case Why.OTHER_PEERS:
                assert (peer, port) == (False, True)
            case Why.OTHER_TRAFFIC:
                assert (peer, port) == (False, False)
            case _:
                assert each.why is Why.STAGED


@pytest.mark.parametrize(
    ("vm", "direction", "remote", "port", "expected"),
    [
        ("/globex/crm:app", Direction.INGRESS, "10.0.0.11", 8080, [
            ("/:ground-rules/ingress/no-telnet", Why.OTHER_PORTS),
            ("/:ground-rules/ingress/ping-is-up-to-tenants", Why.OTHER_PORTS),
            ("/globex:ground-rules/ingress/ping-inside", Why.OTHER_PORTS),
            ("/globex:ground-rules/ingress/users-ask-the-application", Why.OTHER_PEERS),
            ("/globex:ground-rules/ingress/inside-asks-the-application", Why.PASS),
            ("/globex:ground-rules/ingress/nobody-else", Why.LEFT),
            (Tier.BASELINE, Why.DECIDED),
        ]),
        ("/acme/shop:web", Direction.EGRESS, "10.0.0.13", 5432, [
            ("/:ground-rules/egress/no-telnet", Why.OTHER_PORTS),
            ("/:ground-rules/egress/ping-is-up-to-tenants", Why.OTHER_PORTS),
            ("/acme/shop:close-web/egress/nothing-out", Why.STAGED),
            ("/acme/shop:web/egress/to-app", Why.OTHER_TRAFFIC),
            (Tier.BASELINE, Why.GOVERNED),
        ]),
        ("/acme/shop:web", Direction.INGRESS, "10.0.0.13", 23, [(Tier.TENANT, Why.DECIDED), (Tier.BASELINE, Why.DECIDED)]),
    ],
)  # fmt: skip
def test_the_example(vm: str, direction: Direction, remote: str, port: int, expected: list[tuple[str, Why]]) -> None:
    machine = EXAMPLE.vms[vm]
    found = account(EXAMPLE, machine, machine.vnics[0], direction, IPv4Address(remote), 6, port)
    shown = [(each.ref.text, each.why) for each in found.passed_over]
    assert [*shown, *((each.tier, each.why) for each in found.unasked)] == expected
