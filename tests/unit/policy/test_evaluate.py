"""What holds for every set of policies. Single cases stand in tests/golden/semantics-*."""

import dataclasses
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import (
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    InCidr,
    OnNetwork,
    Operator,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.tenancy import ROOT, Mode, Scope
from serai.model.world import World
from serai.policy.evaluate import Connection, Decision, Verdict, judge, judge_side

SCOPES = [ROOT, Scope("/t"), Scope("/t/a"), Scope("/t/b")]
NETWORKS = {
    path: Network(name=name, scope=Scope("/t"), routing_domain=domain, subnets=(IPv4Network("10.0.0.0/24"),))
    for path, name, domain in (("/t:n", "n", "t"), ("/t:m", "m", "other"))
}


def machine(name: str, scope: str, number: int, role: str, network: str) -> VirtualMachine:
    vnic = Vnic(
        id=vnic_id(Scope(scope), name, "eth0"),
        name="eth0",
        network=NETWORKS[network],
        mac=Mac(f"52:54:00:00:00:{number:02x}"),
        addresses=(IPv4Address("10.0.0.0") + number % 16,),
    )
    return VirtualMachine(name=name, scope=Scope(scope), labels={"role": role}, mode=Mode.ENFORCE, vnics=(vnic,))


VMS = {
    vm.path: vm
    for vm in (
        machine("x", "/t/a", 1, "web", "/t:n"),
        machine("y", "/t/b", 2, "db", "/t:n"),
        machine("z", "/t/b", 17, "web", "/t:m"),
    )
}

roles = st.sampled_from(["web", "db"]).map(
    lambda role: frozenset({Expression(key="role", operator=Operator.IN, values=frozenset({role}))})
)
expressions = st.just(frozenset[Expression]()) | roles
peers = (
    st.none()
    | st.builds(Group, scope=st.sampled_from(SCOPES), expressions=expressions)
    | st.builds(OnNetwork, path=st.sampled_from(sorted(NETWORKS)))
    | st.sampled_from(["10.0.0.1/32", "10.0.0.0/24", "0.0.0.0/0"]).map(lambda p: InCidr(prefix=IPv4Network(p)))
)
port_ranges = st.sampled_from(
    [PortRange(protocol=6, first=80, last=80), PortRange(protocol=6), PortRange(protocol=256)]
)
clauses = st.builds(Clause, peer=peers, ports=st.lists(port_ranges, max_size=1).map(tuple))


@st.composite
def policies(draw: st.DrawFn, name: str) -> Policy:
    scope = draw(st.sampled_from(SCOPES))
    tier = draw(st.sampled_from(Tier))
    actions = st.sampled_from([a for a in Action if tier is Tier.ADMIN or a is not Action.PASS])
    rules = {
        direction: tuple(
            Rule(
                ref=RuleRef.of(scope, name, direction, f"r{number}"),
                action=draw(actions),
                clauses=tuple(draw(st.lists(clauses, min_size=1, max_size=2))),
            )
            for number in range(draw(st.integers(0, 3)))
        )
        for direction in draw(st.sets(st.sampled_from(Direction), min_size=1))
    }
    subject = draw(st.sampled_from([s for s in SCOPES if scope.contains(s)]))
    return Policy(
        name=name,
        scope=scope,
        tier=tier,
        priority=draw(st.sampled_from([0, 500])),
        staged=draw(st.booleans()),
        subject=Group(scope=subject, expressions=draw(expressions)),
        rules=rules,
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    several = [draw(policies(name)) for name in "abcde"[: draw(st.integers(0, 5))]]
    return World(networks=NETWORKS, vms=VMS, policies=tuple(several))


connections = st.builds(
    Connection,
    routing_domain=st.just("t"),
    source=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.250"]).map(IPv4Address),
    destination=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.250"]).map(IPv4Address),
    protocol=st.sampled_from([6, 17]),
    port=st.sampled_from([80, 81]),
)


def without_passed(verdict: Verdict) -> Verdict:
    """Forget which Pass rules were met: they explain a decision and are no part of it."""
    egress, ingress = (side and dataclasses.replace(side, passed=()) for side in (verdict.egress, verdict.ingress))
    return dataclasses.replace(verdict, egress=egress, ingress=ingress)


@given(worlds(), connections, st.randoms(use_true_random=False))
def test_the_order_of_policies_and_vms_never_matters(
    world: World, connection: Connection, order: random.Random
) -> None:
    shuffled = list(world.policies)
    order.shuffle(shuffled)
    vms = list(world.vms.items())
    order.shuffle(vms)
    other = dataclasses.replace(world, policies=tuple(shuffled), vms=dict(vms))
    assert judge(other, connection) == judge(world, connection)


@given(worlds(), connections)
def test_pass_in_all_admin_levels_is_the_same_as_no_admin_tier(world: World, connection: Connection) -> None:
    rest = tuple(policy for policy in world.policies if policy.tier is not Tier.ADMIN)
    passing = tuple(
        Policy(
            name="pass",
            scope=scope,
            tier=Tier.ADMIN,
            priority=0,
            staged=False,
            subject=Group(scope=scope),
            rules={
                direction: (
                    Rule(
                        ref=RuleRef.of(scope, "pass", direction, "all"),
                        action=Action.PASS,
                        clauses=(Clause(),),
                    ),
                )
                for direction in Direction
            },
        )
        for scope in SCOPES
    )
    with_pass = judge(dataclasses.replace(world, policies=(*passing, *rest)), connection)
    absent = judge(dataclasses.replace(world, policies=rest), connection)
    assert without_passed(with_pass) == absent
    for side in (with_pass.egress, with_pass.ingress):
        assert side is None or len(side.passed) == 3  # one for each level of /t/a or /t/b


@given(worlds(), connections)
def test_staged_policies_change_nothing_until_asked_for(world: World, connection: Connection) -> None:
    in_force = dataclasses.replace(world, policies=tuple(p for p in world.policies if not p.staged))
    promoted = tuple(dataclasses.replace(policy, staged=False) for policy in world.policies)
    assert judge(world, connection) == judge(in_force, connection)
    assert judge(world, connection, staged=True) == judge(dataclasses.replace(world, policies=promoted), connection)


@given(worlds(), connections)
def test_a_verdict_is_what_its_sides_say(world: World, connection: Connection) -> None:
    verdict = judge(world, connection)
    sides = [side for side in (verdict.egress, verdict.ingress) if side]
    assert all(side.action is not Action.PASS for side in sides)
    assert (verdict.action is Action.ACCEPT) == all(side.action is Action.ACCEPT for side in sides)
    assert verdict.passes == (verdict.action is Action.ACCEPT)
    if verdict.source:
        vm, vnic = verdict.source
        assert verdict.egress == judge_side(
            world, vm, vnic, Direction.EGRESS, connection.destination, connection.protocol, connection.port
        )


@given(worlds(), connections, st.booleans())
def test_no_policy_is_asked_about_a_vm_in_quarantine(world: World, connection: Connection, staged: bool) -> None:  # noqa: FBT001 (hypothesis calls it)
    isolated = {path: dataclasses.replace(vm, mode=Mode.ISOLATE) for path, vm in world.vms.items()}
    allowed = (IPv4Network("10.0.0.250/32"), IPv6Network("::/0"))
    world = dataclasses.replace(world, vms=isolated, quarantine=allowed)
    verdict = judge(world, connection, staged=staged)
    for direction, side, remote in (
        (Direction.EGRESS, verdict.egress, connection.destination),
        (Direction.INGRESS, verdict.ingress, connection.source),
    ):
        if side and remote == IPv4Address("10.0.0.250"):
            assert side == Decision(
                action=Action.ACCEPT, ref=RuleRef.quarantine(direction), tier=None, level=None
            )  # fmt: skip
        elif side:
            assert side == Decision(action=Action.DENY, ref=RuleRef.isolated(direction), tier=None, level=None)
    assert verdict.passes == (verdict.action is Action.ACCEPT)


def test_peers_are_looked_up_in_the_own_routing_domain() -> None:
    rule = Rule(
        ref=RuleRef.of(ROOT, "p", Direction.INGRESS, "web"),
        action=Action.ACCEPT,
        clauses=(Clause(peer=Group(scope=Scope("/t/a"))),),
    )
    policy = Policy(
        name="p",
        scope=ROOT,
        tier=Tier.TENANT,
        priority=500,
        staged=False,
        subject=Group(scope=ROOT),
        rules={Direction.INGRESS: (rule,)},
    )
    world = World(networks=NETWORKS, vms=VMS, policies=(policy,))
    # 10.0.0.1 is x of /t/a for y, and z of /t/b for whoever lives in the other routing domain.
    for path, ref in (("/t/b:y", rule.ref), ("/t/b:z", RuleRef.unmatched(Direction.INGRESS))):
        vm = world.vms[path]
        decision = judge_side(world, vm, vm.vnics[0], Direction.INGRESS, IPv4Address("10.0.0.1"), 6, 80)
        assert decision.ref == ref
