"""What does not fit is refused, in the names of those whose doing it is."""

from __future__ import annotations

import dataclasses
import re
from ipaddress import IPv4Address, IPv4Network

import pytest

from serai.model.columns import Columns
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.tenancy import Mode, Scope
from serai.model.update import Update
from serai.policy.compiler.datacenter import Compiler
from serai.policy.compiler.fit import ROOM, FitError

SHOP = Scope("/acme/shop")
NETWORK = Network(name="front", scope=Scope("/acme"), routing_domain="acme", subnets=(IPv4Network("10.0.0.0/24"),))
IN = Direction.INGRESS


def machine(number: int) -> VirtualMachine:
    name = f"vm{number}"
    vnic = Vnic(
        id=vnic_id(SHOP, name, "eth0"), name="eth0", network=NETWORK, mac=Mac(f"52:54:00:00:00:{number:02x}"),
        addresses=(IPv4Address("10.0.0.0") + number,),
    )  # fmt: skip
    return VirtualMachine(name=name, scope=SHOP, labels={}, mode=Mode.ENFORCE, vnics=(vnic,))


def policy(name: str, *clauses: Clause) -> Policy:
    rule = Rule(ref=RuleRef.of(SHOP, name, IN, "rule"), action=Action.ACCEPT, clauses=clauses)
    return Policy(
        name=name, scope=SHOP, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=SHOP), rules={IN: (rule,)}
    )  # fmt: skip


MODEST = policy("modest", Clause(ports=(PortRange(protocol=6, first=80, last=80),)))
MANY_PORTS = policy("ports", Clause(ports=tuple(PortRange(protocol=6, first=p, last=p) for p in range(0, 400, 2))))
MANY_PREFIXES = policy("prefixes", *(Clause(peer=InCidr(prefix=IPv4Network((at << 8, 24)))) for at in range(40)))


ONE_PREFIX = Clause(peer=InCidr(prefix=IPv4Network("10.0.0.0/24")))
FEW = policy("few", ONE_PREFIX)


def policy_in(scope: Scope) -> Policy:
    rule = Rule(ref=RuleRef.of(scope, "alike", IN, "rule"), action=Action.ACCEPT, clauses=(ONE_PREFIX,))
    return dataclasses.replace(MODEST, name="alike", scope=scope, subject=Group(scope=scope), rules={IN: (rule,)})


def compiler(room: dict[str, int], *vms: VirtualMachine) -> Compiler:
    places = {vm.path: ("a",) for vm in vms}
    return Compiler.of([MODEST], Columns.of(vms), places, room={**ROOM, **room})


@pytest.mark.parametrize(
    ("room", "added", "told"),
    [
        ({"pages": 20}, MANY_PORTS, r"\d+ pages, X /acme/shop:ports/ingress/rule \(199\), /acme/shop:modest/ingress/rule \(2\)$"),
        ({"prefixes": 20}, MANY_PREFIXES, r"40 prefixes, X /acme/shop:prefixes/ingress/rule \(40\)$"),
    ],
)  # fmt: skip
def test_rules_that_cost_too_much_are_named(room: dict[str, int], added: Policy, told: str) -> None:
    one = compiler(room, machine(1))
    held = one.ruleset("a").digest
    told = told.replace("X", "and has room for 20: the rules that cost most are")
    with pytest.raises(FitError, match=f"^host a would have to hold up to {told}"):
        one.update(Update(policies={f"{SHOP}:{added.name}": added}))
    assert one.ruleset("a").digest == held
    assert compiler({}, machine(1)).update(Update(policies={f"{SHOP}:{added.name}": added}))


def test_of_rules_that_cost_the_same_the_first_ones_are_named() -> None:
    """Whatever order they came in, and whatever order sets have in this process."""
    scopes = [Scope(f"/acme/s{at}") for at in range(9, -1, -1)]
    alike = [policy_in(scope) for scope in scopes]
    named = ", ".join(f"/acme/s{at}:alike/ingress/rule (1)" for at in range(5))
    for policies in (alike, alike[::-1]):
        with pytest.raises(FitError, match=f"cost most are {re.escape(named)}$"):
            Compiler.of(
                [FEW, *policies], Columns.of([machine(1)]), {machine(1).path: ("a",)}, room={**ROOM, "prefixes": 0}
            )  # fmt: skip


@pytest.mark.parametrize(
    ("room", "told"),
    [
        ({"vnics": 1}, "up to 2 vnics, and has room for 1: let some of its VMs run elsewhere"),
        (
            {"endpoints": 1},
            "up to 2 endpoints, and has room for 1: its VMs are in routing domains that have too many addresses",
        ),
    ],
)
def test_vms_that_are_too_many_are_told(room: dict[str, int], told: str) -> None:
    with pytest.raises(FitError, match=told):
        compiler(room, machine(1), machine(2))


def test_old_and_new_must_fit_side_by_side() -> None:
    """Each alone would; but while gates switch from one to the other, both are there."""
    one = compiler({"endpoints": 1}, machine(1))
    with pytest.raises(FitError, match="up to 2 endpoints"):
        one.update(Update(policies={f"{SHOP}:modest": None}))
