"""Recorded conversations replayed against another world, compared with the evaluator asked one by one."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import ip_address
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from recording import NOW, recorded
from worlds import worlds

from serai.inventory.files import load
from serai.model.flow_record import Verdict
from serai.model.policy import Action, Direction
from serai.model.ports import format_ports
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.evaluate import Connection, judge, judge_side
from serai.policy.traffic.ends import Finder
from serai.policy.traffic.gates import Gates
from serai.policy.traffic.kinds import kinds
from serai.policy.traffic.seen import DYNAMIC, Conversation
from serai.policy.traffic.whatif import Change, whatif

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
ANYHOW = settings(max_examples=60, deadline=None)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_gates_say_what_the_evaluator_says(world: World, choice: random.Random) -> None:
    gates = Gates(world)
    for c in recorded(world, choice, 100):
        ends = gates.finder.find(c)
        assert ends
        for direction, mine, other in (
            (Direction.EGRESS, ends.source, ends.target),
            (Direction.INGRESS, ends.target, ends.source),
        ):
            said = gates.judge(ends, direction, c.protocol, c.service.first)
            if mine.judged is None:
                assert said is None
                continue
            decision = judge_side(world, *mine.judged, direction, other.address, c.protocol, c.service.first)
            assert said
            assert (said.action, said.ref) == (decision.action, decision.ref)


def outcomes(world: World, domain: str, conversation: Conversation) -> set[int]:
    """Ask the evaluator on every port that the records may mean: 2 accepted, 1 denied in words only, 0 denied."""
    assert conversation.source_address
    assert conversation.target_address
    edges = {
        port
        for policy in world.policies
        for rules in policy.rules.values()
        for rule in rules
        for clause in rule.clauses
        for ports in clause.ports
        for port in (ports.first, ports.last + 1)
        if DYNAMIC[0] <= port <= DYNAMIC[1]
    }
    dynamic = conversation.service.first != conversation.service.last and conversation.protocol in {6, 17, 132}
    found = set()
    for port in {DYNAMIC[0], *edges} if dynamic else {conversation.port}:
        asked = Connection(
            routing_domain=domain, source=conversation.source_address, destination=conversation.target_address,
            protocol=conversation.protocol, port=port,
        )  # fmt: skip
        verdict = judge(world, asked)
        found.add(2 if verdict.action is Action.ACCEPT else int(verdict.passes))
    return found


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_what_turns_is_what_the_evaluator_judges_otherwise(old: World, new: World, choice: random.Random) -> None:
    # The same VMs, except that some are gone, with what the other world says of them.
    moved = {p: vm for p, vm in old.vms.items() if choice.random() < 0.9}
    new = dataclasses.replace(new, vms={p: dataclasses.replace(vm, labels=choice.choice([vm, *old.vms.values()]).labels) for p, vm in moved.items()})  # fmt: skip
    seen = recorded(old, choice, 100)
    found = whatif(old, new, seen)
    rows: dict[tuple[str, str, str], set[Change]] = {}
    for row in found.rows:
        rows.setdefault((row.source, row.target, row.service), set()).add(row.change)
    expected: dict[tuple[str, str, str], set[Change]] = {}
    unknown = 0
    for kind in kinds(seen):
        c = kind.told[0]
        ends = Finder(old).find(c)
        assert ends
        if any(path and path not in new.vms for path in (c.source, c.target)):
            unknown += 1
            continue
        before, after = outcomes(old, ends.domain, c), outcomes(new, ends.domain, c)
        if len(before) > 1 or len(after) > 1:
            unknown += 1
            continue
        [one], [other] = before, after
        if one != other:
            about = str(kind.source), str(kind.target), service(c)
            expected.setdefault(about, set()).add(Change.DENIED if other < one else Change.ALLOWED)
    assert rows == expected
    assert found.unknown == unknown
    assert found.unknown + found.conversations == len(kinds(seen))
    order = [(row.change is Change.ALLOWED, -row.bytes) for row in found.rows]
    assert order == sorted(order)


def service(conversation: Conversation) -> str:
    return format_ports(conversation.service)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_the_same_world_turns_nothing(world: World, choice: random.Random) -> None:
    again = dataclasses.replace(world, policies=tuple(reversed(world.policies)))
    assert not whatif(world, again, recorded(world, choice, 60)).rows


def told(source: str, target: str, port: int, **more: object) -> Conversation:
    fields = {
        "source": source if source.startswith("/") else None,
        "source_address": None if source.startswith("/") else ip_address(source),
        "target": target, "protocol": 6, "port": port, "verdict": Verdict.ACCEPTED, "side": Direction.INGRESS,
        "connections": 3, "bytes": 100, "first": NOW, "last": NOW,
    }  # fmt: skip
    return Conversation(**fields | more)  # type: ignore[arg-type]


def test_rules_are_told_on_the_side_that_turns() -> None:
    old = load(EXAMPLE)
    new = dataclasses.replace(
        old, policies=tuple(p for p in old.policies if (p.scope, p.name) != ("/acme/shop", "app"))
    )
    found = whatif(old, new, [told("/acme/shop:web", "/acme/shop:app", 8080), told("10.0.0.250", "/acme/shop:web", 80)])
    [row] = found.rows
    assert (found.conversations, found.unknown) == (2, 0)
    assert (row.change, row.source, row.target, row.service) == (
        "denied",
        "/acme/shop:web",
        "/acme/shop:app",
        "tcp/8080",
    )
    assert row.rule_before == "/acme/shop:app/ingress/from-web"
    assert row.rule_after != row.rule_before
    [back] = whatif(new, old, [told("/acme/shop:web", "/acme/shop:app", 8080)]).rows
    assert (back.change, back.rule_before, back.rule_after) == ("allowed", row.rule_after, row.rule_before)


def test_what_two_gates_tell_counts_once() -> None:
    old = load(EXAMPLE)
    new = dataclasses.replace(old, policies=())
    both = [
        told("/acme/shop:web", "/acme/shop:app", 8080, connections=7, bytes=700, side=Direction.EGRESS),
        told("/acme/shop:web", "/acme/shop:app", 8080, connections=6, bytes=600),
        told("/acme/shop:web", "/acme/shop:app", 8080, connections=1, bytes=10, verdict=Verdict.OBSERVED),
    ]
    [row] = whatif(old, new, both).rows
    assert (row.connections, row.bytes) == (7, 700)


def test_to_enforce_what_was_observed_denies() -> None:
    old = load(EXAMPLE)
    vm = old.vms["/acme/shop:db"]
    observed = dataclasses.replace(old, vms={**old.vms, vm.path: dataclasses.replace(vm, mode=Mode.OBSERVE)})
    [row] = whatif(observed, old, [told("10.0.0.99", "/acme/shop:db", 22)]).rows
    assert (row.change, row.rule_before, row.rule_after) == ("denied", "unmatched/ingress", "unmatched/ingress")


def test_an_end_that_is_gone_is_not_known() -> None:
    old = load(EXAMPLE)
    found = whatif(
        old, old, [told("/acme/shop:old", "/acme/shop:app", 8080), told("/acme/shop:web", "/acme/shop:gone", 1)]
    )
    assert (found.rows, found.conversations, found.unknown) == ((), 0, 2)
