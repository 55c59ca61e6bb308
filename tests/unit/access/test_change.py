"""What a change touches: rights on what was and what becomes, what only the provider sets, and second persons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serai.access.approval import marks, may_approve, needed
from serai.access.change import Change, may_change, subject_of, touched
from serai.access.decide import Allowed, Caller, Refused
from serai.access.roles import Grant
from serai.access.verbs import Verb
from serai.model.resources import KINDS, Resource
from serai.model.tenancy import ROOT, Scope

DIGEST = f"sha256:{'0' * 64}"
ACME, SHOP, GLOBEX = Scope("/acme"), Scope("/acme/shop"), Scope("/globex")


def resource(kind: str, name: str, scope: str | None = None, **spec: Any) -> Resource:
    metadata = {"name": name} | ({"scope": scope} if scope else {})
    document = {"apiVersion": "serai.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return KINDS[kind].model_validate_json(json.dumps(document))


def policy(tier: str = "Tenant", scope: str = "/acme", subject: str | None = None) -> Resource:
    return resource("Policy", "p", scope, tier=tier, ingress=[], **({"subject": {"scope": subject}} if subject else {}))


def network(**spec: Any) -> Resource:
    return resource("Network", "n", "/acme", subnets=["10.0.0.0/24"], **spec)


def vm(reference: str, **spec: Any) -> Resource:
    vnic = {"network": reference, "mac": "52:54:00:00:00:01", "addresses": ["10.0.0.1"]}
    return resource("VirtualMachine", "v", "/acme", vnics=[vnic], **spec)


def who(*grants: str, name: str = "ann") -> Caller:
    return Caller(name=name, grants=tuple(map(Grant.read, grants)))


def may(caller: Caller, before: Resource | None, after: Resource | None, verb: Verb | None = None) -> bool:
    return isinstance(may_change(caller, [Change(before=before, after=after)], verb), Allowed)


EDITOR, ADMIN, PROVIDER = who("policy-editor:/acme"), who("security-admin:/acme"), who("security-admin:/")


def test_a_policy_is_judged_by_its_tier_before_and_after() -> None:
    assert may(EDITOR, None, policy())
    assert may(EDITOR, policy(), policy("Baseline"))
    assert may(EDITOR, policy(), None)
    assert not may(EDITOR, policy(), policy("Admin"))
    assert not may(EDITOR, policy("Admin"), policy())
    assert not may(EDITOR, policy("Admin"), None)
    assert may(ADMIN, policy("Admin"), policy())


def test_rolling_back_takes_the_right_to_write_and_confirming_less() -> None:
    operator = who("operator:/acme")
    assert may(EDITOR, policy(), None, Verb.ROLLBACK)
    assert not may(operator, policy(), None, Verb.ROLLBACK)
    assert may(operator, policy("Admin"), None, Verb.CONFIRM)
    assert not may(EDITOR, policy("Admin"), None, Verb.CONFIRM)


def test_all_of_a_change_must_be_allowed() -> None:
    changes = [Change(before=None, after=policy()), Change(before=None, after=policy(scope="/globex"))]
    assert isinstance(may_change(EDITOR, changes), Refused)
    assert isinstance(may_change(PROVIDER, changes), Allowed)
    assert isinstance(may_change(EDITOR, []), Allowed)


@pytest.mark.parametrize("kind", ["Site", "Tenant", "Host"])
def test_what_the_provider_has_stands_in_the_root(kind: str) -> None:
    assert subject_of(resource(kind, "acme")).scope == ROOT
    assert not may(ADMIN, None, resource(kind, "acme"))
    assert may(PROVIDER, None, resource(kind, "acme"))


@pytest.mark.parametrize("field", [{"routingDomain": "globex"}, {"bridge": "br0"}, {"vni": 7}, {"tags": ["pci"]}])
def test_fields_that_reach_beyond_a_tenant_are_the_providers(field: dict[str, Any]) -> None:
    assert may(ADMIN, None, network())
    assert not may(ADMIN, None, network(**field))
    assert not may(ADMIN, network(), network(**field))
    assert not may(ADMIN, network(**field), network())
    assert may(ADMIN, network(**field), network(**field))
    assert may(ADMIN, network(**field), None)
    assert may(PROVIDER, network(), network(**field))


def test_a_vm_is_not_put_on_another_tenants_network() -> None:
    for mine in ("n", "/acme:n", "/acme/shop:n", "/:n"):
        assert may(ADMIN, None, vm(mine))
    assert not may(ADMIN, None, vm("/globex:n"))
    assert not may(ADMIN, vm("n"), vm("/globex/crm:n"))
    assert may(ADMIN, vm("/globex:n"), vm("/globex:n"))
    assert may(PROVIDER, None, vm("/globex:n"))


def test_tags_are_the_providers_and_memory_is_not() -> None:
    assert may(ADMIN, vm("n", tags=["pci"]), vm("n", tags=["pci"], memory=512))
    assert not may(ADMIN, None, vm("n", tags=["pci"]))
    assert not may(ADMIN, vm("n"), vm("n", tags=["pci"]))
    assert not may(ADMIN, vm("n", tags=["pci"]), vm("n"))
    assert may(ADMIN, None, vm("n", tags=[]))
    assert may(PROVIDER, vm("n", tags=["pci"]), vm("n"))


@pytest.mark.parametrize("field", [{"images": ["alpine"]}, {"definition": DIGEST}])
def test_what_a_vm_boots_from_and_is_made_of_is_for_the_provider_to_say(field: dict[str, Any]) -> None:
    assert may(ADMIN, vm("n", **field), vm("n", **field, memory=512))
    assert not may(ADMIN, None, vm("n", **field))
    assert not may(ADMIN, vm("n"), vm("n", **field))
    assert not may(ADMIN, vm("n", **field), vm("n"))
    assert may(PROVIDER, vm("n", **field), vm("n"))


@pytest.mark.parametrize(
    "made",
    [
        resource("Pool", "west", hosts=["alpha"]),
        resource("PlacementRule", "r", keepApart={"scope": "/acme"}),
        resource("Image", "alpine", digests=[DIGEST]),
    ],
)
def test_pools_and_placement_rules_and_images_are_the_providers(made: Resource) -> None:
    assert subject_of(made).scope == ROOT
    assert not may(ADMIN, None, made)
    assert may(PROVIDER, None, made)


def test_a_placement_rule_is_a_matter_of_those_whom_it_keeps_apart() -> None:
    apart, other = ({"scope": "/acme/shop"}, {"selector": {"matchLabels": {"role": "db"}}})
    assert touched(Change(before=None, after=resource("PlacementRule", "r", keepApart=apart))) == {ROOT, SHOP}
    assert touched(Change(before=None, after=resource("PlacementRule", "r", keepApart=other))) == {ROOT}
    assert touched(Change(before=resource("PlacementRule", "r", exclusive="pci"), after=None)) == {ROOT}


def test_moving_what_is_named_the_same_touches_both_scopes() -> None:
    assert touched(Change(before=policy(), after=policy(scope="/acme/shop"))) == {ACME, SHOP}
    assert touched(Change(before=None, after=policy(subject="/acme/shop"))) == {ACME, SHOP}


# Second persons

SITE, SITE_2 = resource("Site", "s"), resource("Site", "s", approval=2)


def tenant(approval: int = 1, **applications: dict[str, Any]) -> Resource:
    return resource(
        "Tenant", "acme", approval=approval, applications=[{"name": n} | a for n, a in applications.items()]
    )


def persons(before: Resource | None, after: Resource | None, *there: Resource) -> int:
    return needed([Change(before=before, after=after)], marks(there))


def test_marks_are_read_off_what_is_in_force() -> None:
    assert marks([SITE, tenant(shop={})]) == {}
    assert marks([SITE_2, tenant(2, shop={"approval": 2}, crm={}), policy()]) == {ROOT: 2, ACME: 2, SHOP: 2}


def test_a_mark_holds_in_its_scope_and_below_and_nowhere_else() -> None:
    there = tenant(shop={"approval": 2}, shops={})
    assert persons(None, policy(scope="/acme/shop"), there) == 2
    assert persons(policy(scope="/acme/shop"), None, there) == 2
    assert persons(None, policy(scope="/acme/shops"), there) == 1
    assert persons(None, policy(), there) == 1
    assert persons(None, policy(subject="/acme/shop"), there) == 2
    assert persons(None, policy(scope="/globex"), tenant(2)) == 1
    assert persons(None, policy(scope="/globex"), SITE_2) == 2
    assert needed([], {ROOT: 2}) == 1
    assert needed([Change(before=None, after=policy(scope=s)) for s in ("/globex", "/acme/shop")], marks([there])) == 2


def test_taking_a_mark_away_needs_what_it_asks_for() -> None:
    assert persons(SITE_2, SITE, SITE_2) == 2
    assert persons(SITE_2, None, SITE_2) == 2
    assert persons(tenant(2), tenant(), tenant(2)) == 2
    assert persons(tenant(2), None, tenant(2)) == 2
    shop = tenant(shop={"approval": 2})
    assert persons(shop, tenant(shop={}), shop) == 2
    assert persons(shop, tenant(), shop) == 2
    assert persons(shop, None, shop) == 2
    assert persons(shop, tenant(shop={"approval": 2, "mode": "observe"}), shop) == 2
    assert persons(shop, tenant(shop={"approval": 2}, crm={}), shop) == 1
    assert persons(tenant(), tenant(2), tenant()) == 1


def test_nobody_approves_alone() -> None:
    change = [Change(before=None, after=policy("Admin"))]
    bob = who("security-admin:/acme", name="bob")
    assert isinstance(may_approve(bob, "ann", ["ann"], change), Allowed)
    assert isinstance(may_approve(bob, "bob", [], change), Refused)
    assert isinstance(may_approve(bob, "ann", ["ann", "bob"], change), Refused)
    assert isinstance(may_approve(who("policy-editor:/acme", name="bob"), "ann", [], change), Refused)
    assert isinstance(may_approve(who("security-admin:/globex", name="bob"), "ann", [], change), Refused)
