"""The random worlds are worth asking about: everything that policies can say and VMs can be comes up, and decides."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from policies import ICMP, ICMP_TYPES, WITH_PORTS
from questions import questions
from worlds import SERVICES, worlds

from serai.model.address import contains
from serai.model.policy import (
    ANY_PROTOCOL,
    Action,
    Clause,
    Direction,
    Group,
    InCidr,
    OnNetwork,
    Policy,
    PortRange,
    Rule,
    Tier,
)
from serai.model.records import Step
from serai.model.tenancy import Mode
from serai.model.world import LAST_WORD, World
from serai.policy.compile import compile_host
from serai.policy.evaluate import judge_side

WORLDS = 150
RARE, COMMON = 0.006, 0.05
"""In how many of the worlds a feature is at the least."""


def rules(world: World) -> Iterator[tuple[Policy, Rule]]:
    return ((policy, rule) for policy in world.policies for rules in policy.rules.values() for rule in rules)


def said(world: World) -> Iterator[str]:
    """What the policies use of the language."""
    served = {(service.group, service.ports) for service in SERVICES}
    for policy, rule in rules(world):
        yield f"{policy.tier} {rule.action}"
        for clause in rule.clauses:
            yield "no ports" if not clause.ports else "ports"
            if (clause.peer, clause.ports) in served:
                yield "peer: service"
            yield from _peer(policy, clause)
            for r in clause.ports:
                yield from _ports(r)
    for policy in world.policies:
        yield from ("staged",) if policy.staged else ()
        yield from ("subject: all of the scope",) if not policy.subject.expressions else ()
        yield from (f"{direction}: []" for direction, found in policy.rules.items() if not found)
        yield f"level of {len(policy.scope.parts)}"
        for expression in policy.subject.expressions:
            yield f"subject: {expression.operator}"
    nested = {c.peer.prefix for _, rule in rules(world) for c in rule.clauses if isinstance(c.peer, InCidr)}
    depth = max((sum(contains(outer, inner) for outer in nested) for inner in nested), default=0)
    yield from (f"cidrs {deep} deep" for deep in range(2, depth + 1))


def _peer(policy: Policy, clause: Clause) -> Iterator[str]:
    match clause.peer:
        case None:
            yield "peer: anybody"
        case OnNetwork():
            yield "peer: network"
        case InCidr():
            yield f"peer: cidr of IPv{clause.peer.prefix.version}"
        case Group():
            yield "peer: scope" if not clause.peer.expressions else "peer: selector"
            if clause.peer.scope.tenant not in (None, policy.scope.tenant or clause.peer.scope.tenant):
                yield "peer: another tenant"
            for expression in clause.peer.expressions:
                yield f"peer: {expression.operator}"


def _ports(r: PortRange) -> Iterator[str]:
    whole = (r.first, r.last) == (0, 65535)
    if r.protocol == ANY_PROTOCOL:
        yield "ports: any"
    elif r.protocol in ICMP_TYPES:
        name = "icmp" if r.protocol == ICMP else "icmpv6"
        yield f"ports: {name}" if whole else f"ports: {name} code" if r.first == r.last else f"ports: {name} type"
    elif r.protocol not in WITH_PORTS:
        yield "ports: number"
    elif not whole:
        yield f"ports of {r.protocol}"
        yield from ("ports: from 0",) if r.first == 0 else ()
        yield from ("ports: to 65535",) if r.last == 65535 else ()


def there(world: World) -> Iterator[str]:
    """What there is beside policies."""
    for vm, vnic in world.vnics():
        yield f"mode {vm.mode}"
        yield f"a VM in a scope of {len(vm.scope.parts)}"
        versions = sorted({address.version for address in vnic.addresses})
        yield f"addresses of {versions}"
        for other_vm, other in world.vnics():
            apart = vnic.network.routing_domain != other.network.routing_domain
            if vm is not other_vm and apart and set(vnic.addresses) & set(other.addresses):
                yield "one address in two routing domains"
            if vnic is not other and vm is other_vm:
                yield "vNICs in two routing domains" if apart else "two vNICs in one routing domain"
    owners = {vm.scope.tenant for vm, vnic in world.vnics() if vnic.network.routing_domain == "provider"}
    yield from ("two tenants in one routing domain",) if len(owners) > 1 else ()
    yield from ("a network of a tenant in the provider's domain",) if _joint(world) else ()
    isolated = any(vm.mode is Mode.ISOLATE for vm in world.vms.values())
    yield from ("quarantine with somebody in it",) if isolated and world.quarantine else ()
    yield from ("another last word",) if world.last_word != LAST_WORD else ()


def _joint(world: World) -> bool:
    return any(vnic.network.path == "/acme:joint" for _, vnic in world.vnics())


def laid_out(world: World) -> Iterator[str]:
    """How the compiler lays it out."""
    pages = compile_host(world, "host", world.vms).tables["pages"]
    steps = {(int(page["list"]), int(page["protocol"])): {int(d["step"]) for d in page["decisions"]} for page in pages}
    if any(Step.DESCEND in found for found in steps.values()):
        yield "a page of pages"
    inner = {int(d["rule"]) for page in pages for d in page["decisions"] if d["step"] == Step.DESCEND}
    if any(number in inner and Step.DESCEND in found for (number, _), found in steps.items()):
        yield "a page of pages of pages"


def decided(world: World) -> Iterator[str]:
    """What has the last word on connections, and on whose behalf."""
    for question in questions(world, 1, 200):
        now, then = (
            judge_side(world, question.vm, question.vnic, *question.asked, staged=staged) for staged in (False, True)
        )
        yield f"by {now.tier or now.ref.text.partition('/')[0]}: {now.action}"
        yield from (f"after {min(len(now.passed), 2)} Pass",) if now.passed else ()
        yield from ("by the Tenant tier's closing word",) if now.ref.text.startswith("unmatched") else ()
        yield from ("otherwise with staged policies",) if now.action is not then.action else ()
        holder = world.holder(question.vnic.network.routing_domain, question.remote)
        yield "about a VM" if holder else "about an outside address"
        if holder and holder[0].scope.tenant != question.vm.scope.tenant:
            yield "about another tenant's VM"
        yield from ("on a second vNIC",) if question.vnic is not question.vm.vnics[0] else ()


SEEN: dict[Callable[[World], Iterator[str]], dict[str, float]] = {
    said: {
        **{f"{who}: {o}": COMMON for who in ("peer", "subject") for o in ("In", "NotIn", "Exists", "DoesNotExist")},
        **{f"{tier} {action}": COMMON for tier in Tier for action in (Action.ACCEPT, Action.DENY)},
        **{f"peer: {kind}": COMMON for kind in ("anybody", "network", "selector", "scope", "service")},
        **{f"peer: cidr of IPv{version}": COMMON for version in (4, 6)},
        **{f"ports of {protocol}": COMMON for protocol in WITH_PORTS},
        **{f"ports: {kind}": COMMON for kind in ("any", "from 0", "to 65535", "number")},
        **{f"ports: {name}{kind}": RARE for name in ("icmp", "icmpv6") for kind in ("", " type", " code")},
        **{f"level of {parts}": COMMON for parts in range(3)},
        **{f"{direction}: []": COMMON for direction in Direction},
        "Admin Pass": COMMON, "peer: another tenant": COMMON, "ports": COMMON, "no ports": COMMON, "staged": COMMON,
        "subject: all of the scope": COMMON, "cidrs 3 deep": COMMON, "cidrs 6 deep": RARE,
    },
    there: {
        **{f"mode {mode}": COMMON for mode in Mode},
        **{f"a VM in a scope of {parts}": COMMON for parts in (1, 2)},
        **{f"addresses of {versions}": COMMON for versions in ([4], [6], [4, 6])},
        "one address in two routing domains": COMMON, "vNICs in two routing domains": COMMON,
        "two vNICs in one routing domain": COMMON, "two tenants in one routing domain": COMMON,
        "a network of a tenant in the provider's domain": COMMON, "quarantine with somebody in it": COMMON,
        "another last word": COMMON,
    },
    laid_out: {"a page of pages": COMMON, "a page of pages of pages": RARE},
    decided: {
        **{f"by {tier}: {action}": COMMON for tier in Tier for action in (Action.ACCEPT, Action.DENY)},
        "by builtin: Accept": COMMON, "by builtin: Deny": COMMON, "by quarantine: Accept": COMMON,
        "by isolated: Deny": COMMON, "by the Tenant tier's closing word": COMMON, "after 1 Pass": COMMON,
        "after 2 Pass": RARE, "otherwise with staged policies": COMMON, "about a VM": COMMON,
        "about an outside address": COMMON, "about another tenant's VM": COMMON, "on a second vNIC": COMMON,
    },
}  # fmt: skip
"""What has to be in at least which part of the worlds, by who tells."""


@functools.cache
def sample() -> list[World]:
    """Some worlds, the same ones in every run."""
    drawn: list[World] = []

    @settings(
        max_examples=WORLDS, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(worlds())
    def draw(world: World) -> None:
        drawn.append(world)

    draw()
    assert len(drawn) >= WORLDS
    return drawn


def shares(tell: Callable[[World], Iterable[str]]) -> dict[str, float]:
    """In which part of the worlds each feature is."""
    found = collections.Counter(feature for world in sample() for feature in set(tell(world)))
    return {feature: count / len(sample()) for feature, count in found.items()}


@pytest.mark.parametrize("tell", SEEN, ids=lambda tell: tell.__name__)
def test_every_feature_comes_up_often_enough(tell: Callable[[World], Iterator[str]]) -> None:
    seen = shares(tell)
    rare = {feature: seen.get(feature, 0) for feature, least in SEEN[tell].items() if seen.get(feature, 0) < least}
    assert not rare, dict(sorted(seen.items()))
