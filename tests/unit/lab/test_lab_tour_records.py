"""What the tour takes for a record of a connection, where gates count drops by who the far end is to policy."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from serai.analysis.naming import NamedRow
from serai.lab.probe import ProbeResult
from serai.lab.tour.matrix import Identities, Probe, Tried, on_record
from serai.lab.tour.stage import since
from serai.model.flow import Outcome
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Clause, Direction, Expression, Group, Operator, Policy, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.evaluate import Connection, judge

SCOPE = Scope("/acme/shop")
NETWORK = Network(name="front", scope=Scope("/acme"), routing_domain="acme", subnets=(IPv4Network("10.0.0.0/24"),))
OUT, IN = Direction.EGRESS, Direction.INGRESS


def vm(name: str, host: int) -> VirtualMachine:
    vnic = Vnic(
        id=vnic_id(SCOPE, name, "eth0"), name="eth0", network=NETWORK, mac=Mac(f"52:54:00:00:00:{host:02x}"),
        addresses=(IPv4Address(f"10.0.0.{host}"),),
    )  # fmt: skip
    return VirtualMachine(name=name, scope=SCOPE, labels={"role": name[0]}, mode=Mode.ENFORCE, vnics=(vnic,))


def group(role: str) -> Group:
    wanted = Expression(key="role", operator=Operator.IN, values=frozenset({role}))
    return Group(scope=SCOPE, expressions=frozenset({wanted}))


RULE = RuleRef.of(SCOPE, "web", IN, "from-app")
WEB = Policy(
    name="web", scope=SCOPE, tier=Tier.TENANT, priority=500, staged=False, subject=group("w"),
    rules={IN: (Rule(ref=RULE, action=Action.ACCEPT, clauses=(Clause(peer=group("a")),)),)},
)  # fmt: skip
VMS = {m.path: m for m in (vm("web", 1), vm("app", 2), vm("d1", 3), vm("d2", 4))}
WORLD = World(networks={NETWORK.path: NETWORK}, vms=VMS, policies=(WEB,))
WHO = Identities(WORLD)
DENIED = RuleRef.unmatched(IN).text


def tried(source: str | None, target: str = "web") -> Tried:
    """A connection to tcp/22, as the policies judge it."""
    end, goal = VMS.get(f"{SCOPE}:{source}"), VMS[f"{SCOPE}:{target}"]
    address = IPv4Address("10.0.0.250") if end is None else end.vnics[0].addresses[0]
    assert isinstance(address, IPv4Address)
    probe = Probe(source=end, source_address=address, target=goal, protocol=6, port=22)
    verdict = judge(
        WORLD,
        Connection(routing_domain="acme", source=address, destination=goal.vnics[0].addresses[0], protocol=6, port=22),
    )
    assert verdict.ingress is not None
    accepted = verdict.action is Action.ACCEPT
    return Tried(
        probe=probe, result=ProbeResult(ok=accepted, error="", milliseconds=1, peer=""), accepted=accepted,
        passes=accepted, tries=1, decider=verdict.ingress, far=WHO.around(probe),
    )  # fmt: skip


def row(source: str, target: str = "web", **changes: Any) -> NamedRow:
    made = NamedRow(
        host="a", source=f"{SCOPE}:{source}", target=f"{SCOPE}:{target}", service="tcp/22", direction=IN, packets=1,
        bytes=60, connections=1, outcome=Outcome.DENIED, staged=Outcome.DENIED, reason=Reason.DENIED, rule=DENIED,
        identity=tried(source, target).far[IN],
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_who_is_who() -> None:
    assert tried("d1").far[IN] == tried("d2").far[IN] == tried(None).far[IN] == 0, "no policy tells them apart"
    assert tried("app").far[IN] != 0
    assert tried("app", "d1").far.keys() == {OUT, IN}
    assert tried(None).far.keys() == {IN}, "users have no gate"


def test_a_drop_is_on_record_under_the_name_of_another_of_its_class() -> None:
    assert on_record(tried("d1"), [row("d1")])
    assert on_record(tried("d1"), [row("d2")]), "the record names the last one"
    assert on_record(tried(None), [row("d2")])


@pytest.mark.parametrize(
    "other",
    [
        row("app"), row("d2", direction=OUT), row("d2", "app"), row("d2", service="tcp/23"), row("d2", rule=RULE.text),
        row("d2", outcome=Outcome.ACCEPTED),
        row("d2", outcome=Outcome.OBSERVED),  # a flow, which has one far end
    ],
    ids=["another class", "another side", "another target", "another service", "another rule", "accepted", "a flow"],
)  # fmt: skip
def test_what_is_no_record_of_it(other: NamedRow) -> None:
    assert not on_record(tried("d1"), [other])


def test_an_observed_flow_is_on_record_by_name() -> None:
    assert on_record(tried("d1"), [row("d1", outcome=Outcome.OBSERVED)])


def test_a_record_of_more_than_one_identity_goes_by_its_name() -> None:
    assert on_record(tried("d1"), [row("d1", identity=None)])
    assert not on_record(tried("d1"), [row("d2", identity=None)])


def test_growth_of_a_record_whose_name_changed() -> None:
    before = [row("d1", packets=5, bytes=500, connections=1)]
    (grown,) = since(before, [row("d2", packets=7, bytes=700, connections=1)])
    assert (grown.packets, grown.bytes, grown.source) == (2, 200, f"{SCOPE}:d2")
    assert since(before, [row("d2", packets=5, bytes=500)]) == []


def test_growth_of_a_record_that_was_swept_and_began_again() -> None:
    before = [row("d1", packets=5)]
    (grown,) = since(before, [row("d1", packets=6), row("d2", packets=3)])
    assert grown.packets == 4


def test_growth_of_flows_goes_by_their_ends() -> None:
    flow = {"outcome": Outcome.ACCEPTED, "staged": Outcome.ACCEPTED, "reason": Reason.NONE}
    before = [row("d1", packets=5, **flow)]
    (grown,) = since(before, [row("d1", packets=5, **flow), row("d2", packets=3, **flow)])
    assert (grown.source, grown.packets) == (f"{SCOPE}:d2", 3)


def test_growth_of_different_drops_is_told_apart() -> None:
    kinds = [{"reason": Reason.NO_FLOW, "rule": ""}, {"rule": RULE.text}, {"service": "tcp/23"}, {"direction": OUT}]
    before = [row("d1", packets=5, **kind) for kind in kinds]
    after = [row("d2" if n % 2 else "d1", packets=5 + n, **kind) for n, kind in enumerate(kinds)]
    after[3] = dataclasses.replace(after[3], source=before[3].source)  # it is the near end
    assert sorted(grown.packets for grown in since(before, after)) == [1, 2, 3]
