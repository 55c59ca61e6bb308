"""Proofs and refutations, against the evaluator on random worlds."""

from __future__ import annotations

import dataclasses
import random
from ipaddress import ip_network
from pathlib import Path

import pytest
from asking import accepts, asked
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.inventory.files import load
from serai.model.invariant import Claim, Invariant
from serai.model.policy import (
    ANY_PROTOCOL,
    Action,
    Clause,
    Expression,
    Group,
    InCidr,
    OnNetwork,
    Operator,
    Peer,
    PortRange,
)
from serai.model.ports import ICMP, UDP
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World
from serai.policy.evaluate import Connection
from serai.policy.match import Remote, is_peer
from serai.policy.questions.prove import Finding, Outcome, Vacuity, prove

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
SCOPES = tuple(map(Scope, ("/", "/acme", "/acme/shop", "/globex", "/globex/crm")))
CIDRS = ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.2/32", "::/0", "2001:db8::/32", "2001:db8:0:1::2/128", "fe80::/10")
labels = st.builds(
    Expression,
    key=st.sampled_from(("role", "env")),
    operator=st.sampled_from((Operator.IN, Operator.NOT_IN)),
    values=st.frozensets(st.sampled_from("abc"), min_size=1, max_size=2),
)
peers = st.one_of(
    st.builds(Group, scope=st.sampled_from(SCOPES), expressions=st.frozensets(labels, max_size=1)),
    st.builds(OnNetwork, path=st.sampled_from(("/acme:front", "/acme:back", "/globex:front"))),
    st.builds(InCidr, prefix=st.sampled_from(CIDRS).map(ip_network)),
)
ports = st.one_of(
    st.builds(PortRange, protocol=st.sampled_from((1, 6, 17, 50, 58, 132, ANY_PROTOCOL))),
    st.builds(PortRange, protocol=st.just(6), first=st.sampled_from((0, 22, 443)), last=st.sampled_from((443, 65535))),
)
clauses = st.builds(Clause, peer=st.none() | peers, ports=st.lists(ports, max_size=2).map(tuple))
invariants = st.builds(
    Invariant,
    path=st.just("/:i"),
    scope=st.just(ROOT),
    description=st.just(""),
    claim=st.sampled_from(Claim),
    sources=st.lists(st.none() | peers, min_size=1, max_size=2).map(tuple),
    targets=st.lists(clauses, min_size=1, max_size=2).map(tuple),
)


def breaks(world: World, invariant: Invariant, connection: Connection) -> bool:
    """Read off the meaning of the invariant whether the connection breaks it."""
    ends = [
        Remote(address=address, holder=world.holder(connection.routing_domain, address))
        for address in (connection.source, connection.destination)
    ]
    named = any(is_peer(peer, ends[0]) for peer in invariant.sources)
    meant = any(
        is_peer(clause.peer, ends[1])
        and (not clause.ports or any(r.contains(connection.protocol, connection.port) for r in clause.ports))
        for clause in invariant.targets
    )
    if named == (invariant.claim is Claim.ONLY) or not meant:
        return False
    return accepts(world, connection) == (invariant.claim is not Claim.ALWAYS)


@settings(max_examples=150, deadline=None)
@given(worlds(), invariants, st.randoms(use_true_random=False))
def test_what_is_proven_is_not_broken_and_what_is_refuted_is(
    world: World, invariant: Invariant, choice: random.Random
) -> None:
    [finding] = prove(dataclasses.replace(world, invariants=(invariant,)))
    if finding.witness:
        assert finding.outcome is Outcome.REFUTED
        connection = finding.witness.connection
        assert breaks(world, invariant, connection)
        assert connection.source != connection.destination
        assert connection.source.version == connection.destination.version
        assert finding.witness.verdict.source or finding.witness.verdict.destination
        return
    for connection in asked(world, choice, 300):
        assert not breaks(world, invariant, connection), connection


@settings(max_examples=100, deadline=None)
@given(worlds(), invariants, st.randoms(use_true_random=False))
def test_what_is_broken_is_refuted(world: World, invariant: Invariant, choice: random.Random) -> None:
    broken = any(breaks(world, invariant, connection) for connection in asked(world, choice, 200))
    [finding] = prove(dataclasses.replace(world, invariants=(invariant,)))
    assert finding.outcome is Outcome.REFUTED or not broken


def found(claim: Claim, sources: list[Peer | None], *targets: Clause, world: World | None = None) -> Finding:
    invariant = Invariant(
        path="/:i", scope=ROOT, description="", claim=claim, sources=tuple(sources), targets=targets or (Clause(),)
    )
    [finding] = prove(dataclasses.replace(world or load(EXAMPLE), invariants=(invariant,)))
    return finding


def scope(path: str) -> Group:
    return Group(scope=Scope(path))


USERS = InCidr(prefix=load(EXAMPLE).networks["/acme:front"].subnets[0])
NOBODY = Group(scope=Scope("/nobody"))
PING = PortRange(protocol=ICMP, first=8 << 8, last=(8 << 8) + 255)
UNREACHABLE = PortRange(protocol=ICMP, first=3 << 8, last=(3 << 8) + 255)


@pytest.mark.parametrize(
    ("claim", "sources", "target", "vacuity"),
    [
        (Claim.NEVER, [NOBODY], Clause(), Vacuity.NO_SOURCES),
        (Claim.ONLY, [NOBODY], Clause(peer=scope("/acme"), ports=(PING,)), Vacuity.NO_SOURCES),
        (Claim.ALWAYS, [scope("/acme")], Clause(peer=NOBODY), Vacuity.NO_TARGETS),
        (Claim.ONLY, [None], Clause(peer=scope("/acme")), Vacuity.NO_OTHERS),
        (Claim.NEVER, [None], Clause(ports=(UNREACHABLE,)), Vacuity.NO_PORTS),
        (Claim.ALWAYS, [scope("/acme")], Clause(peer=scope("/globex")), Vacuity.NO_MEETING),
    ],
)
def test_what_says_nothing_is_not_proven(
    claim: Claim, sources: list[Peer | None], target: Clause, vacuity: Vacuity
) -> None:
    finding = found(claim, sources, target)
    assert (finding.outcome, finding.vacuity) == (Outcome.VACUOUS, vacuity)


def test_tenants_in_domains_of_their_own_can_never_meet() -> None:
    finding = found(Claim.NEVER, [scope("/acme")], Clause(peer=scope("/globex")))
    assert (finding.outcome, finding.apart) == (Outcome.PROVEN, True)
    assert (finding.source_domains, finding.target_domains) == (["acme"], ["globex"])
    assert not found(Claim.NEVER, [scope("/acme")], Clause(peer=scope("/acme"), ports=(PING,))).apart


def test_a_refutation_names_one_connection_and_who_lets_it_pass() -> None:
    assert found(Claim.ONLY, [USERS], Clause(peer=scope("/globex"), ports=(PING,))).outcome is Outcome.PROVEN
    witness = found(Claim.NEVER, [scope("/globex")], Clause(peer=scope("/globex"), ports=(PING,))).witness
    assert witness
    connection = witness.connection
    assert (connection.routing_domain, connection.protocol, connection.port) == ("globex", ICMP, 8 << 8)
    assert connection.source != connection.destination
    assert witness.verdict.action is Action.ACCEPT
    assert witness.verdict.egress
    assert witness.verdict.egress.ref.text == "/globex:ground-rules/egress/ping-inside"


def test_tunnels_count_where_a_vnic_may_send_them() -> None:
    world = dataclasses.replace(
        load(EXAMPLE), policies=(), last_word=dict.fromkeys(load(EXAMPLE).last_word, Action.ACCEPT)
    )
    vxlan = Clause(ports=(PortRange(protocol=UDP, first=4789, last=4789),))
    assert found(Claim.NEVER, [scope("/acme")], vxlan, world=world).vacuity is Vacuity.NO_PORTS
    vms = {
        path: dataclasses.replace(
            vm,
            vnics=tuple(
                dataclasses.replace(v, security=dataclasses.replace(v.security, tunnels=True)) for v in vm.vnics
            ),
        )
        for path, vm in world.vms.items()
    }
    assert found(Claim.NEVER, [scope("/acme")], vxlan, world=dataclasses.replace(world, vms=vms)).witness


def test_the_example_keeps_its_own_invariants() -> None:
    findings = prove(load(EXAMPLE))
    assert len(findings) >= 4
    assert {finding.outcome for finding in findings} == {Outcome.PROVEN}


def test_a_link_local_address_may_face_a_global_one() -> None:
    """No station chooses them so by itself, but one that wants to can."""
    world = load(Path(__file__).parents[2] / "golden/prove-versions/in")
    link_local, others = (InCidr(prefix=ip_network(text)) for text in ("fe80::/10", "2001:db8:0:1::/64"))
    mdns = Clause(peer=others, ports=(PortRange(protocol=UDP, first=5353, last=5353),))
    witness = found(Claim.NEVER, [link_local], mdns, world=world).witness
    assert witness
    assert witness.connection.source in link_local.prefix
    assert witness.connection.destination in others.prefix
