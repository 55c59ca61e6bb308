"""Who may share what is compiled once: tenants that differ in names and numbers only. Nobody is judged by another's rules.

Each pair of tenants is compiled together, and has to come out as each of them does alone, byte for byte, and as the evaluator
has it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from questions import questions
from tenants import tenants
from worlds import worlds

from serai.model.columns import Columns
from serai.model.decode import decode
from serai.model.definitions import DefinitionErrors
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
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.ports import TCP, UDP
from serai.model.ruleset import HostRuleset, Step
from serai.model.tenancy import Mode, Scope
from serai.model.update import Update
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler.census import census
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.domains import CompiledDomain, Shapes, compile_domains
from serai.policy.compiler.spell import SpelledPolicy
from serai.policy.compiler.statutes import Statutes
from serai.policy.evaluate import judge_side
from serai.policy.lookup import Lookup

IN, OUT = Direction.INGRESS, Direction.EGRESS
ACCEPT, DENY, PASS = Action.ACCEPT, Action.DENY, Action.PASS
STEPS = {Action.ACCEPT: Step.ACCEPT, Action.DENY: Step.DENY}
QUARANTINE = (ip_network("203.0.113.0/28"),)

RuleOf = tuple[str, Action, Sequence[Peer | None], tuple[PortRange, ...]]


def port(number: int, protocol: int = TCP) -> PortRange:
    return PortRange(protocol=protocol, first=number, last=number)


def cidr(text: str) -> InCidr:
    return InCidr(prefix=ip_network(text))


def group(scope: str, *wanted: tuple[str, Operator, str]) -> Group:
    expressions = frozenset(
        Expression(key=key, operator=operator, values=frozenset(filter(None, [value])))
        for key, operator, value in wanted
    )
    return Group(scope=Scope(scope), expressions=expressions)


def role(scope: str, name: str) -> Group:
    return group(scope, ("role", Operator.IN, name))


def policy(
    scope: str, name: str, tier: Tier = Tier.TENANT, subject: Group | None = None, *,
    priority: int = 500, staged: bool = False, **rules: Sequence[RuleOf],
) -> Policy:  # fmt: skip
    return Policy(
        name=name, scope=Scope(scope), tier=tier, priority=priority, staged=staged,
        subject=subject or Group(scope=Scope(scope)),
        rules={
            Direction(direction): tuple(
                Rule(
                    ref=RuleRef.of(Scope(scope), name, Direction(direction), rule), action=action,
                    clauses=tuple(Clause(peer=peer, ports=ports) for peer in peers),
                )
                for rule, action, peers, ports in side
            )
            for direction, side in rules.items()
        },
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """A tenant: what it says, and what it has."""

    name: str
    policies: tuple[Policy, ...]
    vms: tuple[VirtualMachine, ...]

    @property
    def scope(self) -> str:
        return f"/{self.name}"

    def with_policy(self, changed: Policy) -> Tenancy:
        """The same with one more policy, or with another in the place of that of the same path."""
        others = [p for p in self.policies if (p.scope, p.name) != (changed.scope, changed.name)]
        return dataclasses.replace(self, policies=(*others, changed))

    def with_vm(self, changed: VirtualMachine) -> Tenancy:
        return dataclasses.replace(self, vms=(*(vm for vm in self.vms if vm.name != changed.name), changed))

    def policy(self, name: str) -> Policy:
        return next(p for p in self.policies if p.name == name)

    def vm(self, name: str) -> VirtualMachine:
        return next(vm for vm in self.vms if vm.name == name)


def network(tenant: str, name: str, domain: str | None = None) -> Network:
    scope = Scope(tenant)
    subnets = tuple(map(ip_network, ("10.0.0.0/16", "2001:db8::/64")))
    return Network(name=name, scope=scope, routing_domain=domain or scope.tenant or "provider", subnets=subnets)


def machine(
    scope: str, name: str, *cards: tuple[Network, Sequence[str]], mode: Mode = Mode.ENFORCE, **labels: str
) -> VirtualMachine:
    vnics = tuple(
        Vnic(
            id=vnic_id(Scope(scope), name, f"eth{at}"), name=f"eth{at}", network=net,
            mac=Mac("52:54:00:" + vnic_id(Scope(scope), name, f"eth{at}").to_bytes(8).hex(":")[:8]),
            addresses=tuple(map(ip_address, addresses)),
        )
        for at, (net, addresses) in enumerate(cards)
    )  # fmt: skip
    return VirtualMachine(name=name, scope=Scope(scope), labels=labels, mode=mode, vnics=vnics)


def tenant(name: str, users: Sequence[str] = ("198.51.100.0/24", "2001:db8:9::/48")) -> Tenancy:
    """Three VMs, and policies of every tier; ``users`` are prefixes of its own."""
    t, shop, data = f"/{name}", f"/{name}/shop", f"/{name}/data"
    front = network(t, "front")
    web = port(443)
    return Tenancy(
        name=name,
        policies=(
            policy(
                t, "guard", Tier.ADMIN, priority=400,
                ingress=[("no-telnet", DENY, [None], (port(23),)), ("inside", PASS, [group(t)], ())],
            ),
            policy(
                t, "shop",
                ingress=[
                    ("from-users", ACCEPT, [cidr(text) for text in users], (web,)),
                    ("from-web", ACCEPT, [role(shop, "web")], (port(5432),)),
                ],
                egress=[("inside", ACCEPT, [group(t)], ()), ("names", ACCEPT, [cidr(users[-1])], (port(53, UDP),))],
            ),
            policy(data, "data", subject=role(data, "db"), ingress=[("near", ACCEPT, [OnNetwork(path=f"{t}:front")], (port(6432),))]),
            policy(t, "last", Tier.BASELINE, ingress=[("rest", DENY, [None], ())]),
        ),
        vms=(
            machine(shop, "web", (front, ["10.0.0.2", "2001:db8::2"]), role="web"),
            machine(data, "db", (front, ["10.0.0.3", "2001:db8::3"]), role="db", env="live"),
            machine(t, "spare", (front, ["10.0.0.4"])),
        ),
    )  # fmt: skip


GROUND = policy(
    "/", "ground", Tier.ADMIN, priority=100,
    ingress=[("bad", DENY, [cidr("198.18.0.0/15"), cidr("2001:db8:bad::/48")], ()), ("watch", ACCEPT, [cidr("172.31.0.0/24")], (port(9100),))],
)  # fmt: skip


# What every pair has to stand


def world_of(*several: Tenancy, provider: Sequence[Policy] = (GROUND,)) -> World:
    vms = {vm.path: vm for each in several for vm in each.vms}
    return World(
        networks={v.network.path: v.network for vm in vms.values() for v in vm.vnics}, vms=vms,
        policies=(*provider, *(p for each in several for p in each.policies)), quarantine=QUARANTINE,
    )  # fmt: skip


def compiled(world: World, *, together: bool = True) -> tuple[dict[str, CompiledDomain], int]:
    """Compile all domains, and say how many templates that took; not together: each as if there were no others."""
    statutes = Statutes.of(map(SpelledPolicy, world.policies), world.last_word, world.quarantine)
    members = list(census(Columns.of(world.vms.values())))
    shapes: Shapes = {}
    if together:
        return compile_domains(members, statutes, shapes), len(shapes)
    found: dict[str, CompiledDomain] = {}
    for each in members:
        found |= compile_domains([each], statutes, {})
    return found, len(found)


def agree(world: World, ruleset: HostRuleset, count: int = 60) -> None:
    lookup, guarded = Lookup(ruleset), {vnic.id: vnic for vnic in ruleset.vnics}
    for question in questions(world, 1, count, lambda q: q.vnic.id in guarded):
        found = lookup.decide(guarded[question.vnic.id], *question.asked)
        now, then = (
            judge_side(world, question.vm, question.vnic, *question.asked, staged=staged) for staged in (False, True)
        )
        assert found is not None
        assert (found.step, found.rule) == (STEPS[now.action], now.ref.text), question
        assert (found.staged_step, found.staged_rule) == (STEPS[then.action], then.ref.text), question


def require_own_rules(*several: Tenancy, provider: Sequence[Policy] = (GROUND,)) -> int:
    """Compile tenants together and alone; return how many templates it took together."""
    world = world_of(*several, provider=provider)
    places = {vm.path: (f"host-{each.name}", "all") for each in several for vm in each.vms}
    compiler = Compiler.of(
        world.policies, Columns.of(world.vms.values()), places, last_word=world.last_word, quarantine=world.quarantine
    )  # fmt: skip
    for each in several:
        mine = [vm.path for vm in each.vms]
        alone = compile_host(world_of(each, provider=provider), f"host-{each.name}", mine)
        assert compiler.ruleset(f"host-{each.name}").encode() == alone.encode()
    agree(world, compiler.ruleset("all").checked())
    return compiled(world)[1]


Change = Callable[[Tenancy], Tenancy]


def rules_changed(
    tenancy: Tenancy, name: str, direction: Direction, change: Callable[[list[Rule]], list[Rule]]
) -> Tenancy:
    one = tenancy.policy(name)
    rules = {**one.rules, direction: tuple(change(list(one.rules[direction])))}
    return tenancy.with_policy(dataclasses.replace(one, rules=rules))


def peers_of(name: str, direction: Direction, peers: Callable[[str], Sequence[Peer | None]], at: int = 0) -> Change:
    """Let the rule at ``at`` speak of others; they are told the tenant's scope."""

    def change(tenancy: Tenancy) -> Tenancy:
        def changed(rules: list[Rule]) -> list[Rule]:
            clauses = tuple(Clause(peer=peer, ports=rules[at].clauses[0].ports) for peer in peers(tenancy.scope))
            rules[at] = dataclasses.replace(rules[at], clauses=clauses)
            return rules

        return rules_changed(tenancy, name, direction, changed)

    return change


def ports_of(*ports: PortRange) -> Change:
    def changed(rules: list[Rule]) -> list[Rule]:
        clauses = tuple(dataclasses.replace(clause, ports=ports) for clause in rules[1].clauses)
        return [rules[0], dataclasses.replace(rules[1], clauses=clauses)]

    return lambda tenancy: rules_changed(tenancy, "shop", IN, changed)


def actions(tenancy: Tenancy) -> Tenancy:
    return rules_changed(tenancy, "shop", IN, lambda rules: [rules[0], dataclasses.replace(rules[1], action=DENY)])


def pass_is_accept(tenancy: Tenancy) -> Tenancy:
    return rules_changed(tenancy, "guard", IN, lambda rules: [rules[0], dataclasses.replace(rules[1], action=ACCEPT)])


def other_rule_first(tenancy: Tenancy) -> Tenancy:
    return rules_changed(tenancy, "guard", IN, lambda rules: rules[::-1])


def policy_with(name: str, **fields: object) -> Change:
    return lambda tenancy: tenancy.with_policy(dataclasses.replace(tenancy.policy(name), **fields))  # type: ignore[arg-type]


def subject(name: str, of: Callable[[str], Group]) -> Change:
    return lambda t: t.with_policy(dataclasses.replace(t.policy(name), subject=of(t.scope)))


def renamed(name: str, other: str) -> Change:
    """The policy under another name: among equal priorities names decide who is asked first."""

    def change(tenancy: Tenancy) -> Tenancy:
        one = tenancy.policy(name)
        rules = {
            side: tuple(
                dataclasses.replace(rule, ref=RuleRef.of(one.scope, other, side, rule.ref.text.rpartition("/")[2]))
                for rule in rules
            )
            for side, rules in one.rules.items()
        }
        left = tuple(p for p in tenancy.policies if p is not one)
        return dataclasses.replace(tenancy, policies=(*left, dataclasses.replace(one, name=other, rules=rules)))

    return change


def denial_for_web(tenancy: Tenancy, priority: int) -> Tenancy:
    """A denial of what ``shop`` accepts, before or behind it."""
    return tenancy.with_policy(
        policy(tenancy.scope, "close", priority=priority, ingress=[("web", DENY, [role(f"{tenancy.scope}/shop", "web")], ())])
    )  # fmt: skip


def labels(vm: str, **wanted: str) -> Change:
    return lambda tenancy: tenancy.with_vm(dataclasses.replace(tenancy.vm(vm), labels=wanted))


def mode(vm: str, wanted: Mode) -> Change:
    return lambda tenancy: tenancy.with_vm(dataclasses.replace(tenancy.vm(vm), mode=wanted))


def moved(vm: str, *cards: tuple[str, Sequence[str]]) -> Change:
    """Put a VM on networks of its tenant, or with a ``/`` in front on the provider's."""

    def change(tenancy: Tenancy) -> Tenancy:
        one = tenancy.vm(vm)
        nets = [
            (network("/", name[1:], f"{tenancy.name}-{name[1:]}") if name.startswith("/") else network(tenancy.scope, name), a)
            for name, a in cards
        ]  # fmt: skip
        return tenancy.with_vm(machine(one.scope, vm, *nets, mode=one.mode, **one.labels))

    return change


def rehomed(tenancy: Tenancy) -> Tenancy:
    one = tenancy.vm("spare")
    return tenancy.with_vm(machine(f"{tenancy.scope}/shop", "spare", (one.vnics[0].network, ["10.0.0.4"])))


def users(*texts: str) -> Change:
    return lambda tenancy: dataclasses.replace(tenancy, policies=tenant(tenancy.name, texts).policies)


SAME: Mapping[str, Change] = {
    "nothing": lambda tenancy: tenancy,
    "other prefixes of its own": users("192.0.2.0/25", "2001:db8:77::/64"),
    "of the other version": users("2001:db8:77::/64", "192.0.2.0/25"),
    "of one version": users("192.0.2.0/25", "192.0.2.128/25"),
    "single addresses": users("192.0.2.1/32", "2001:db8:77::1/128"),
    "the last addresses there are": users("255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
    "the first": users("0.0.0.0/32", "::/128"),
    "prefixes of another tenant's kind": users("10.1.0.0/16", "10.2.0.0/16"),
    "VMs that came in another order": lambda t: dataclasses.replace(t, vms=t.vms[::-1]),
    "policies too": lambda t: dataclasses.replace(t, policies=t.policies[::-1]),
    "one VM is observed": mode("db", Mode.OBSERVE),
    "a VM without IPv6": moved("db", ("front", ["10.0.0.3"])),
    "other addresses": moved("spare", ("front", ["10.0.7.7"])),
    "one more address of the same kind": moved("spare", ("front", ["10.0.7.7", "10.0.9.9"])),
    "a second VM like the first": lambda t: t.with_vm(
        machine(f"{t.scope}/shop", "web2", (network(t.scope, "front"), ["10.0.0.77", "2001:db8::77"]), role="web")
    ),
    "a VM of another name": lambda t: dataclasses.replace(
        t, vms=(*t.vms[:2], machine(t.scope, "reserve", (network(t.scope, "front"), ["10.0.0.4"])))
    ),
}  # fmt: skip
"""What compiling sees no difference in."""

DIFFERENT: Mapping[str, Change] = {
    "an action": actions,
    "Pass and Accept": pass_is_accept,
    "a port": ports_of(port(5433)),
    "a range of ports": ports_of(PortRange(protocol=TCP, first=5432, last=5433)),
    "a protocol": ports_of(port(5432, UDP)),
    "one port more": ports_of(port(5432), port(5433)),
    "no ports": ports_of(),
    "the order of rules": other_rule_first,
    "a priority": policy_with("shop", priority=501),
    "staged": policy_with("shop", staged=True),
    "a tier": policy_with("last", tier=Tier.ADMIN),
    "a direction less": lambda t: t.with_policy(
        dataclasses.replace(t.policy("shop"), rules={IN: t.policy("shop").rules[IN]})
    ),
    "a direction that is governed and has no rules": lambda t: t.with_policy(
        dataclasses.replace(t.policy("data"), rules={**t.policy("data").rules, OUT: ()})
    ),
    "the name of a policy": renamed("data", "zdata"),
    "the scope of a subject": subject("shop", lambda t: group(f"{t}/shop")),
    "the labels of a subject": subject("data", lambda t: role(f"{t}/data", "web")),
    "the scope of a peer": peers_of("shop", OUT, lambda t: [group(f"{t}/data")]),
    "a peer's scope that begins like another": peers_of("shop", OUT, lambda t: [group(f"{t}/shop-b")]),
    "the value of a peer": peers_of("shop", IN, lambda t: [role(f"{t}/shop", "db")], at=1),
    "the operator of a peer": peers_of("shop", IN, lambda t: [group(f"{t}/shop", ("role", Operator.NOT_IN, "web"))], at=1),
    "the key of a peer": peers_of("shop", IN, lambda t: [group(f"{t}/shop", ("env", Operator.IN, "web"))], at=1),
    "exists and does not": peers_of("shop", IN, lambda t: [group(f"{t}/data", ("env", Operator.EXISTS, ""))], at=1),
    "does not exist": peers_of("shop", IN, lambda t: [group(f"{t}/data", ("env", Operator.DOES_NOT_EXIST, ""))], at=1),
    "a network in the place of a group": peers_of("shop", OUT, lambda t: [OnNetwork(path=f"{t}:front")]),
    "another network": peers_of("data", IN, lambda t: [OnNetwork(path=f"{t}:back")]),
    "a network of the provider of that name": peers_of("data", IN, lambda _: [OnNetwork(path="/:front")]),
    "a network of another tenant": peers_of("data", IN, lambda _: [OnNetwork(path="/north:front")]),
    "anybody": peers_of("shop", OUT, lambda _: [None]),
    "the provider's scope": peers_of("shop", OUT, lambda _: [group("/")]),
    "another tenant's scope": peers_of("shop", OUT, lambda _: [group("/north")]),
    "one peer more": peers_of("shop", OUT, lambda t: [group(t), cidr("192.0.2.0/24")]),
    "two peers that were one": peers_of("shop", OUT, lambda t: [group(f"{t}/shop"), group(f"{t}/data")]),
    "a prefix of its own that is the provider's": users("198.18.0.0/15", "2001:db8:9::/48"),
    "the provider's other one": users("198.51.100.0/24", "172.31.0.0/24"),
    "one inside the provider's": users("198.18.7.0/24", "2001:db8:9::/48"),
    "one around the provider's": users("198.0.0.0/8", "2001:db8:9::/48"),
    "one around its own VMs": users("10.0.0.0/24", "2001:db8:9::/48"),
    "one around some of its own VMs": users("10.0.0.2/31", "2001:db8:9::/48"),
    "one that is the address of its own VM": users("10.0.0.2/32", "2001:db8:9::/48"),
    "one that is the other address of its own VM": users("198.51.100.0/24", "2001:db8::2/128"),
    "around link-local addresses": users("198.51.100.0/24", "fe80::/10"),
    "one that VMs in quarantine may reach": users("203.0.113.0/28", "2001:db8:9::/48"),
    "one inside the quarantine's": users("203.0.113.8/29", "2001:db8:9::/48"),
    "one in the other": users("198.51.100.0/24", "198.51.100.0/25"),
    "one around the other": users("198.51.100.0/25", "198.51.100.0/24"),
    "one prefix twice": users("198.51.100.0/24", "198.51.100.0/24"),
    "all of IPv4": users("0.0.0.0/0", "2001:db8:9::/48"),
    "all of IPv6": users("198.51.100.0/24", "::/0"),
    "what lies around IPv4": users("198.51.100.0/24", "::/80"),
    "a label of a VM": labels("spare", role="web"),
    "another value of a label": labels("web", role="db"),
    "the home of a VM": rehomed,
    "the network of a VM": moved("db", ("back", ["10.0.0.3", "2001:db8::3"])),
    "a VM on a network of the provider": moved("db", ("/edge", ["10.0.0.3", "2001:db8::3"])),
    "a VM in quarantine": mode("db", Mode.ISOLATE),
    "a VM less": lambda t: dataclasses.replace(t, vms=t.vms[:2]),
}  # fmt: skip
"""What makes one tenant's rules unfit for the other."""

PAIRS = [("acme", "globex"), ("t10", "t1")]
"""Names of one length, and one that begins like the other; whoever comes first is compiled for both."""


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_tenants_that_differ_in_names_and_numbers_share_one_template(names: tuple[str, str], change: Change) -> None:
    one, other = map(tenant, names)
    assert require_own_rules(one, change(other)) == 1


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_tenants_that_differ_in_anything_else_do_not(change: Change) -> None:
    for one, other in PAIRS:
        here, there = (change(tenant(one)), tenant(other))
        # A VM on a network of another routing domain makes a domain, and a template, more.
        more = len({v.network.routing_domain for vm in here.vms for v in vm.vnics}) - 1
        assert require_own_rules(here, there) == 2 + more


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("198.18.0.0/15", "2001:db8:bad::/48"), ("2001:db8:bad::/48", "198.18.0.0/15")),
        (("198.18.0.0/15", "192.0.2.0/24"), ("2001:db8:bad::/48", "192.0.2.0/24")),
        (("198.18.0.0/15", "192.0.2.0/24"), ("192.0.2.0/24", "198.18.0.0/15")),
        (("192.0.2.0/24", "203.0.113.0/28"), ("203.0.113.0/28", "192.0.2.0/24")),
        (("192.0.2.0/24", "192.0.2.0/25"), ("192.0.2.0/25", "192.0.2.0/24")),
        (("10.0.0.2/32", "192.0.2.0/25"), ("10.0.0.3/32", "192.0.2.0/25")),
        (("10.0.0.2/32", "10.0.0.3/32"), ("10.0.0.3/32", "10.0.0.2/32")),
        (("198.18.0.0/16", "198.0.0.0/8"), ("198.0.0.0/8", "198.18.0.0/16")),
        (("::/0", "0.0.0.0/0"), ("0.0.0.0/0", "::/0")),
        (("::/0", "2001:db8:9::/48"), ("::/80", "2001:db8:9::/48")),
    ],
)
def test_prefixes_that_lie_in_other_things_do_not_share(here: Sequence[str], there: Sequence[str]) -> None:
    assert require_own_rules(tenant("t10", here), tenant("t1", there)) == 2
    assert require_own_rules(tenant("t1", here), tenant("t10", here)) == 1


def test_which_of_its_own_prefixes_a_rule_speaks_of_is_part_of_the_shape() -> None:
    first, second = "192.0.2.0/25", "192.0.2.128/25"
    one, other = (
        peers_of("shop", OUT, lambda _, text=text: [cidr(text)], at=1)(tenant(name, (first, second)))
        for name, text in (("t1", first), ("t10", second))
    )
    assert require_own_rules(one, other) == 2
    assert require_own_rules(other, tenant("t2", ("10.1.0.0/16", "10.2.0.0/16"))) == 1


def test_all_of_them_at_once() -> None:
    """In one compilation everybody may meet everybody's template."""
    several = [
        change(tenant(f"t{at}"))
        for at, change in enumerate(itertools.chain(SAME.values(), DIFFERENT.values(), SAME.values()))
        if change is not DIFFERENT["a VM on a network of the provider"]  # two tenants cannot both have that
    ]
    assert require_own_rules(*several) == len(DIFFERENT), "all that are the same have one; one is left out"


@pytest.mark.parametrize(("before", "behind"), [(499, 501), (0, 1000)])
def test_who_is_asked_first_is_part_of_the_shape(before: int, behind: int) -> None:
    one, other = denial_for_web(tenant("acme"), before), denial_for_web(tenant("globex"), behind)
    assert require_own_rules(one, other) == 2
    asked_last = renamed("close", "zclose")(denial_for_web(tenant("north"), 500))
    assert require_own_rules(denial_for_web(tenant("acme"), 500), asked_last) == 2


# Policies of the provider that speak of tenants


@pytest.mark.parametrize(
    ("peers", "subject", "templates"),
    [
        ([group("/t1")], None, 2),
        ([group("/t10")], None, 2),
        ([group("/t1"), group("/t10")], None, 2),  # it is not one place to either: /t1 and /t10 are not swapped
        ([group("/t1/shop")], None, 2),
        ([OnNetwork(path="/t1:front")], None, 2),
        ([group("/t")], None, 1),
        ([group("/t100")], None, 1),
        ([group("/t1-a")], None, 1),
        ([group("/")], None, 1),
        ([role("/", "web")], None, 1),
        ([None], group("/t1"), 2),
        ([None], group("/t1/data"), 2),
        ([None], group("/t10/shop"), 2),
        ([None], role("/t10", "db"), 2),
        ([None], role("/", "db"), 1),
        ([cidr("10.0.0.2/32")], None, 1),
    ],
)
def test_what_the_provider_says_of_one_tenant_is_said_of_no_other(
    peers: Sequence[Peer | None], subject: Group | None, templates: int
) -> None:
    for action in (ACCEPT, DENY):
        said = policy("/", "said", Tier.ADMIN, subject, priority=50, ingress=[("it", action, peers, (port(7),))])
        base = policy("/", "base", Tier.BASELINE, subject, egress=[("it", action, peers, (port(8),))])
        for names in (("t1", "t10"), ("t10", "t1")):
            assert require_own_rules(*map(tenant, names), provider=(GROUND, said, base)) == templates


def test_names_of_scopes_that_begin_alike() -> None:
    """/a, /a-b and /a/b are three places, whoever speaks of them."""

    def speaking(name: str, whom: str) -> Tenancy:
        return tenant(name).with_policy(
            policy(f"/{name}", "speaks", ingress=[("of", ACCEPT, [group(whom)], (port(7),))])
        )

    a, ab = speaking("a", "/a"), speaking("a-b", "/a")
    assert require_own_rules(a, ab) == 2
    assert require_own_rules(speaking("a", "/a"), speaking("a-b", "/a-b")) == 1
    assert require_own_rules(speaking("a", "/a-b"), speaking("a-b", "/a")) == 2
    assert require_own_rules(speaking("a", "/a/b"), speaking("a-b", "/a-b")) == 2
    assert require_own_rules(speaking("a", "/a/b"), speaking("a-b", "/a-b/b")) == 1
    assert require_own_rules(speaking("a", "/c"), speaking("a-b", "/c")) == 1


# Domains that are not one tenant's


def joint(name: str, **others: Sequence[str]) -> tuple[VirtualMachine, ...]:
    """VMs of several tenants in one routing domain, on a network of the provider."""
    net = network("/", name, f"joint-{name}")
    return tuple(
        machine(f"/{tenancy}", f"on-{name}", (net, addresses), role="web") for tenancy, addresses in others.items()
    )


def test_domains_of_several_tenants_are_judged_by_the_rules_of_all() -> None:
    several = [tenant("t1"), actions(tenant("t2")), tenant("t3"), actions(tenant("t4"))]
    one = joint("one", t1=["10.0.0.2"], t2=["10.0.0.3"])
    two = joint("two", t3=["10.0.0.2"], t4=["10.0.0.3"])
    three = joint("three", t2=["10.0.0.2"], t1=["10.0.0.3"])
    four = joint("four", t1=["10.0.0.2"])  # of one tenant after all
    five = joint("five", t3=["10.0.0.2"])
    guest = machine(
        "/t1", "two-cards", (network("/t1", "front"), ["10.0.5.5"]), (one[0].vnics[0].network, ["10.0.5.5"])
    )
    world = world_of(*several)
    more = {vm.path: vm for vm in (*one, *two, *three, *four, *five, guest)}
    world = dataclasses.replace(
        world, vms={**world.vms, **more}, networks={**world.networks, **{vm.vnics[-1].network.path: vm.vnics[-1].network for vm in more.values()}},
    )  # fmt: skip
    ruleset = compile_host(world, "all", world.vms)
    agree(world, ruleset.checked(), 2000)
    assert parts(compiled(world)[0]) == parts(compiled(world, together=False)[0])
    for path in more:
        agree(world, compile_host(world, "alone", [path]).checked(), 60)


def test_a_tenants_own_place_is_told_from_places_that_begin_like_it() -> None:
    """To /t1 the network /t10:front is not what /t20:front is to /t2, if the provider speaks of one of them."""
    said = policy("/", "said", Tier.ADMIN, priority=50, ingress=[("it", DENY, [OnNetwork(path="/t10:front")], ())])

    def guest(name: str) -> Tenancy:
        net = network(f"/{name}0", "front", f"with-{name}")
        vms = tuple(machine(f"/{name}", f"vm{at}", (net, [f"10.0.0.{at}"])) for at in (2, 3))
        return Tenancy(name=name, policies=tenant(name).policies, vms=vms)

    assert require_own_rules(guest("t1"), guest("t2"), provider=(GROUND, said)) == 2
    assert require_own_rules(guest("t2"), guest("t1"), provider=(GROUND, said)) == 2


def test_what_one_tenant_of_a_domain_said_is_not_what_the_other_says_later() -> None:
    """What is compiled is kept while policies change: the shape of a domain of several has their names in it."""
    vms = joint("one", t1=["10.0.0.2"], t2=["10.0.0.3"])

    def saying(name: str) -> World:
        said = policy(f"/{name}", "said", ingress=[("own", ACCEPT, [group(f"/{name}"), cidr("192.0.2.0/24")], ())])
        return World(
            networks={"/:one": vms[0].vnics[0].network}, vms={vm.path: vm for vm in vms}, policies=(GROUND, said)
        )

    world = saying("t1")
    compiler = Compiler.of(world.policies, Columns.of(vms), {vm.path: ("all",) for vm in vms})
    for name in ("t2", "t1", "t2"):
        following = saying(name)
        compiler.update(Update.between(world, following))
        world = following
        assert compiler.ruleset("all").encode() == compile_host(world, "all", world.vms).encode()
        agree(world, compiler.ruleset("all").checked())


def test_a_vm_with_cards_in_two_domains_has_the_rules_of_its_tenant_in_both() -> None:
    def with_two(name: str, action: Action) -> Tenancy:
        made = tenant(name)
        net = network("/", f"edge-{name}", f"edge-{name}")
        vm = machine(
            f"/{name}/shop", "two", (network(made.scope, "front"), ["10.0.3.3"]), (net, ["10.0.0.2"]), role="web"
        )
        said = policy(
            made.scope, "edge", ingress=[("it", action, [OnNetwork(path=net.path), cidr("10.0.3.3/32")], (port(7),))]
        )
        return made.with_vm(vm).with_policy(said)

    assert require_own_rules(with_two("t1", ACCEPT), with_two("t10", ACCEPT)) == 4, "they name their networks"
    assert require_own_rules(with_two("t1", ACCEPT), with_two("t10", DENY)) == 4


def test_two_domains_of_one_tenant() -> None:
    """One policy about prefixes that lie around the VMs of one domain, and not of the other."""
    made = tenant("t1", users=("10.0.0.0/24", "2001:db8:9::/48"))
    far = network("/t1", "far", "t1-far")
    with_far = made.with_vm(machine("/t1/shop", "web", (far, ["10.0.8.2"]), role="web"))
    assert require_own_rules(with_far, tenant("t2", users=("10.0.0.0/24", "2001:db8:9::/48"))) == 3


# Words that look like marks


TOKENS = (
    "$",
    "$0",
    "$/shop",
    "0",
    "1",
    '"',
    '"prefix":"',
    '"prefix":"10.0.0.0/8',
    "\\",
    "\n",
    "[]",
    "t1",
    "null",
    "true",
)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("other", ["$", "web"])
def test_labels_that_look_like_marks_are_labels(token: str, other: str) -> None:
    """Most of them no file can say; what is compiled does not count on it."""

    def marked(name: str, value: str, wanted: str) -> Tenancy:
        made = labels("spare", role=value)(tenant(name))
        said = policy(made.scope, "marks", ingress=[("it", ACCEPT, [role(made.scope, wanted)], (port(7),))])
        return made.with_policy(said)

    assert require_own_rules(marked("t1", token, token), marked("t10", token, token)) == 1
    if token != other:
        assert require_own_rules(marked("t1", token, token), marked("t10", other, token)) == 2
        assert require_own_rules(marked("t1", token, token), marked("t10", token, other)) == 2
        assert require_own_rules(marked("t10", token, token), marked("t1", other, other)) == 2


@pytest.mark.parametrize("value", ["/t1", "/t1/shop", "/t1:front", "/"])
@pytest.mark.parametrize("field", ["labels", "selector"])
def test_no_label_reads_like_a_scope(value: str, field: str) -> None:
    """Shapes count on it: whatever begins with a tenant's scope is that tenant."""
    spec = {
        "labels": f"{{vnics: [], labels: {{role: '{value}'}}}}",
        "selector": f"{{tier: Tenant, subject: {{selector: {{matchLabels: {{role: '{value}'}}}}}}, ingress: []}}",
    }[field]
    kind = {"labels": "VirtualMachine", "selector": "Policy"}[field]
    text = (
        "{apiVersion: serai.dev/v1, kind: Tenant, metadata: {name: t1}}\n---\n"
        f"{{apiVersion: serai.dev/v1, kind: {kind}, metadata: {{name: x, scope: /t1}}, spec: {spec}}}\n"
    )
    with pytest.raises(DefinitionErrors, match="is not a label's value"):
        decode({"a.yaml": text})


# And at random


def parts(domains: Mapping[str, CompiledDomain]) -> dict[str, object]:
    return {name: (domain.part, dict(domain.books)) for name, domain in domains.items()}


@settings(max_examples=60, deadline=None)
@given(st.one_of(tenants(), worlds()))
def test_sharing_changes_nothing(world: World) -> None:
    together, templates = compiled(world)
    event(f"{len(together) - templates} share")
    assert parts(together) == parts(compiled(world, together=False)[0])


POOL = (
    "198.18.0.0/15", "198.18.0.0/16", "198.18.7.0/24", "198.0.0.0/8", "172.31.0.0/24", "172.16.0.0/12", "203.0.113.0/28",
    "203.0.113.0/24", "10.0.0.0/24", "10.0.0.2/31", "10.0.0.2/32", "10.0.0.3/32", "0.0.0.0/0", "::/0", "::/80", "fe80::/10",
    "2001:db8::/64", "2001:db8::/126", "2001:db8::2/128", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.128/25", "2001:db8:9::/48",
)  # fmt: skip
_FEW = st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique=True)
_SLOTS = st.tuples(_FEW, _FEW, st.sampled_from(POOL))
"""The prefixes of three rules of a tenant: all tenants have the same rules otherwise."""


def with_slots(name: str, slots: tuple[list[str], list[str], str]) -> Tenancy:
    one, two, three = slots
    return tenant(name, users=one).with_policy(
        policy(
            f"/{name}", "slots", priority=450,
            ingress=[("a", DENY, list(map(cidr, two)), ()), ("b", ACCEPT, [cidr(three)], (port(7),))],
            egress=[("c", ACCEPT, [cidr(three), *map(cidr, one)], ())],
        )
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_SLOTS, min_size=2, max_size=6), st.sampled_from(((), (GROUND,))))
def test_whatever_prefixes_a_tenant_names_they_are_its_own(
    several: list[tuple[list[str], list[str], str]], provider: tuple[Policy, ...]
) -> None:
    made = [with_slots(f"t{at}", slots) for at, slots in enumerate(several)]
    templates = require_own_rules(*made, provider=provider)
    event(f"{len(made) - templates} share")
