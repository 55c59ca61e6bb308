"""Counted rows in names: whose, to whom, which service, which rule; and sums of those that are alike."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.analysis.naming import NamedRow, named_rows, service_text
from serai.model.address import Address, link_local
from serai.model.flow import FlowRow, Outcome
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, VnicId, vnic_id
from serai.model.policy import Action, Clause, Direction, Group, Policy, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

OUT, IN = Direction.EGRESS, Direction.INGRESS


def machine(tenant: str, name: str, number: int) -> VirtualMachine:
    scope = Scope(f"/{tenant}/app")
    network = Network(
        name="front", scope=Scope(f"/{tenant}"), routing_domain=tenant, subnets=(IPv4Network("10.0.0.0/24"),)
    )
    vnic = Vnic(
        id=vnic_id(scope, name, "eth0"), name="eth0", network=network,
        mac=Mac(f"52:54:00:00:{len(tenant):02x}:{number:02x}"),
        addresses=(
            IPv4Address("10.0.0.0") + number, IPv4Address("10.0.0.100") + number, ip_address("2001:db8::") + number,
        ),
    )  # fmt: skip
    return VirtualMachine(name=name, scope=scope, labels={}, mode=Mode.ENFORCE, vnics=(vnic,))


WEB, DB, OTHER = machine("acme", "web", 1), machine("acme", "db", 2), machine("globex", "db", 2)
RULE = RuleRef.of(Scope("/acme"), "shop", OUT, "to-db")
POLICY = Policy(
    name="shop", scope=Scope("/acme"), tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=Scope("/acme")),
    rules={OUT: (Rule(ref=RULE, action=Action.ACCEPT, clauses=(Clause(),)),)},
)  # fmt: skip
WORLD = World(vms={vm.path: vm for vm in (WEB, DB, OTHER)}, policies=(POLICY,))
FLOW = FlowRow(
    vnic=WEB.vnics[0].id, direction=OUT, remote=IPv4Address("10.0.0.2"), identity=0xABCD, protocol=6, port=5432,
    packets_out=1, packets_in=2, bytes_out=30, bytes_in=40, outcome=Outcome.ACCEPTED, reason=Reason.NONE, rule=RULE.id,
    staged=Outcome.ACCEPTED, age_seconds=1.5,
)  # fmt: skip


def row(**changes: Any) -> FlowRow:
    return dataclasses.replace(FLOW, **changes)


def name(flow: FlowRow, **rules: int) -> NamedRow:
    (named,) = named_rows(WORLD, {"a": [flow]}, rules)
    return named


def test_a_connection_between_two_vms() -> None:
    assert name(FLOW) == NamedRow(
        host="a", source="/acme/app:web", target="/acme/app:db", service="tcp/5432", direction=OUT, packets=3, bytes=70,
        connections=1, outcome=Outcome.ACCEPTED, staged=Outcome.ACCEPTED, reason=Reason.NONE, rule=RULE.text,
        identity=0xABCD,
    )  # fmt: skip


def address(text: str) -> Address:
    return ip_address(text)


@pytest.mark.parametrize(
    ("flow", "source", "target"),
    [
        (row(direction=IN), DB.path, WEB.path),
        (row(remote=address("10.0.0.102")), WEB.path, DB.path),
        (row(remote=address("2001:db8::2")), WEB.path, DB.path),
        (row(remote=link_local(DB.vnics[0].mac.packed)), WEB.path, DB.path),
        (row(remote=address("10.0.0.77")), WEB.path, "10.0.0.77"),
        (row(remote=address("2001:db8::77")), WEB.path, "2001:db8::77"),
        (row(direction=IN, remote=address("8.8.8.8")), "8.8.8.8", WEB.path),
        (row(vnic=OTHER.vnics[0].id, remote=address("10.0.0.1")), OTHER.path, "10.0.0.1"),
        (row(vnic=VnicId(5)), "an unknown tap", "10.0.0.2"),
        (row(vnic=VnicId(0), direction=IN), "10.0.0.2", "an unknown tap"),
    ],
    ids=["opened to the VM", "a second address", "an IPv6 address", "an implied address",
         "an address of nobody", "an IPv6 address of nobody", "from outside", "another routing domain's web",
         "a vNIC of the past", "an unknown tap"],
)  # fmt: skip
def test_ends(flow: FlowRow, source: str, target: str) -> None:
    named = name(flow)
    assert (named.source, named.target) == (source, target)


@pytest.mark.parametrize(
    ("protocol", "port", "text"),
    [(6, 443, "tcp/443"), (17, 53, "udp/53"), (1, 8 << 8, "icmp/8.0"), (1, 3 << 8 | 4, "icmp/3.4"), (47, 0, "47"),
     (58, 128 << 8, "icmpv6/128.0"), (132, 3868, "sctp/3868"),
     (0, 0, "-"), (255, 9, "255")],
)  # fmt: skip
def test_services(protocol: int, port: int, text: str) -> None:
    assert service_text(protocol, port) == text
    assert name(row(protocol=protocol, port=port)).service == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, ""),
        (RULE.id, RULE.text),
        (RuleRef.builtin(IN).id, "builtin/ingress"),
        (RuleRef.unmatched(OUT).id, "unmatched/egress"),
        (RuleRef.quarantine(OUT).id, "quarantine/egress"),
        (RuleRef.isolated(IN).id, "isolated/ingress"),
        (77, "/acme:old/egress/gone"),
        (0xABC, "a rule no longer known (0xabc)"),
    ],
)
def test_rules(number: int, text: str) -> None:
    assert name(row(rule=number), **{"/acme:old/egress/gone": 77}).rule == text


KINDS = [
    {"direction": IN}, {"remote": address("10.0.0.3")}, {"protocol": 17}, {"port": 443}, {"vnic": DB.vnics[0].id},
    {"outcome": Outcome.OBSERVED}, {"outcome": Outcome.DENIED, "reason": Reason.DENIED}, {"reason": Reason.NO_FLOW},
    {"staged": Outcome.DENIED}, {"rule": 0},
]  # fmt: skip


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_rows_that_differ_in_more_than_numbers_stay_apart(changes: dict[str, Any]) -> None:
    assert len(named_rows(WORLD, {"a": [FLOW, row(**changes), FLOW]}, {})) == 2


def test_both_ends_of_one_connection_are_two_rows() -> None:
    """Each gate judges its own side of it."""
    ends = [FLOW, row(vnic=DB.vnics[0].id, direction=IN, remote=WEB.vnics[0].addresses[0])]
    named = named_rows(WORLD, {"a": ends}, {})
    assert [(n.direction, n.source, n.target) for n in named] == [(OUT, WEB.path, DB.path), (IN, WEB.path, DB.path)]


def test_rows_that_differ_in_numbers_are_one() -> None:
    (named,) = named_rows(WORLD, {"a": [FLOW, row(packets_in=10, bytes_out=1000, connections=4, age_seconds=9)]}, {})
    assert (named.packets, named.bytes, named.connections) == (3 + 11, 70 + 1040, 5)


def test_who_the_far_end_is_may_change_meanwhile() -> None:
    (named,) = named_rows(WORLD, {"a": [FLOW, row(identity=5), FLOW]}, {})
    assert (named.connections, named.identity, named.fields()["identity"]) == (3, None, None)


def test_a_vm_that_moved_was_counted_on_several_hosts() -> None:
    (named,) = named_rows(WORLD, {"b": [FLOW], "a": [FLOW, FLOW]}, {})
    assert (named.host, named.packets, named.connections) == ("a, b", 9, 3)


def test_a_program_gets_every_field() -> None:
    fields = name(FLOW).fields()
    assert fields == {
        "host": "a", "from": WEB.path, "to": DB.path, "service": "tcp/5432", "side": "egress", "packets": 3, "bytes": 70,
        "connections": 1, "verdict": "accepted", "staged": "accepted", "reason": "none", "rule": RULE.text,
        "identity": "0xabcd",
    }  # fmt: skip
    assert len(fields) == len(dataclasses.fields(NamedRow))


flows = st.builds(
    row, packets_in=st.integers(0, 9), connections=st.integers(1, 3), remote=st.sampled_from(["10.0.0.2", "10.0.0.9"]).map(address),
    direction=st.sampled_from(Direction), rule=st.sampled_from([0, RULE.id, 5]), identity=st.sampled_from([0, 7]), vnic=st.sampled_from([FLOW.vnic, VnicId(3)]),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("ab"), st.lists(flows, max_size=8)), st.randoms(use_true_random=False))
def test_order_is_nothing_and_nothing_is_lost(counted: dict[str, list[FlowRow]], choice: random.Random) -> None:
    shuffled = {host: choice.sample(rows, len(rows)) for host, rows in reversed(counted.items())}
    named = named_rows(WORLD, counted, {})
    # Rows come in order of what they say, so that the same traffic is always listed alike.
    assert named == named_rows(WORLD, shuffled, {})
    everything = [flow for rows in counted.values() for flow in rows]
    assert sum(n.packets for n in named) == sum(f.packets_in + f.packets_out for f in everything)
    assert sum(n.connections for n in named) == sum(f.connections for f in everything)
    assert len({dataclasses.replace(n, packets=0, bytes=0, connections=0) for n in named}) == len(named)
