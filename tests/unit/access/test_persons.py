"""Whatever security-admins make of each other, together they never do more than they could."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from serai.access.decide import Allowed, Caller, Subject, decide
from serai.access.persons import home, may_manage
from serai.access.roles import Grant, Role
from serai.access.verbs import Verb
from serai.model.policy import Tier
from serai.model.tenancy import ROOT, Scope

SCOPES = [Scope(text) for text in ("/", "/acme", "/acme/shop", "/globex")]
NAMES = ["ann", "bob", "eve", "kim"]
GRANTS = st.builds(Grant, st.sampled_from(Role), st.sampled_from(SCOPES))
SETS = st.lists(GRANTS, max_size=3).map(tuple)
THINGS = [Subject(scope=s, kind=k, tier=t) for s in SCOPES for k, t in [
    (None, None), ("Policy", Tier.TENANT), ("Policy", Tier.ADMIN), ("Network", None), ("Site", None),
]]  # fmt: skip

Everybody = dict[str, tuple[Grant, ...]]


def rights(grants: tuple[Grant, ...], within: tuple[Grant, ...] | None = None) -> set[tuple[Verb, Subject]]:
    caller = Caller(name="x", grants=grants, within=within)
    return {(v, w) for v, w in itertools.product(Verb, THINGS) if isinstance(decide(caller, v, w), Allowed)}


def reachable(actors: set[str], everybody: Everybody) -> set[tuple[Verb, Subject]]:
    return set().union(*(rights(everybody.get(name, ())) for name in actors))


@given(
    st.fixed_dictionaries(dict.fromkeys(NAMES[:3], SETS)),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), SETS), max_size=12),
)
def test_no_acts_give_anybody_more_than_the_actors_had(
    everybody: Everybody, acts: list[tuple[str, str, tuple[Grant, ...]]]
) -> None:
    # Whoever is changed may be given another password, so the actor may be them from then on.
    conspirators = {"ann"}
    at_first = reachable(conspirators, everybody)
    for actor, target, grants in acts:
        if actor not in conspirators:
            continue
        caller = Caller(name=actor, grants=everybody.get(actor, ()))
        if isinstance(may_manage(caller, target, everybody.get(target), grants), Allowed):
            everybody = everybody | {target: grants}
            conspirators.add(target)
        assert reachable(conspirators, everybody) <= at_first


@given(SETS, SETS, SETS)
def test_a_limited_token_gives_no_more_than_it_may(
    own: tuple[Grant, ...], within: tuple[Grant, ...], gets: tuple[Grant, ...]
) -> None:
    ann = Caller(name="ann", grants=own, within=within)
    if isinstance(may_manage(ann, "bob", None, gets), Allowed):
        assert rights(gets) <= rights(own, within)


def who(*grants: str) -> Caller:
    return Caller(name="ann", grants=tuple(map(Grant.read, grants)))


def may(caller: Caller, before: list[str] | None, after: list[str]) -> bool:
    had = None if before is None else list(map(Grant.read, before))
    return isinstance(may_manage(caller, "bob", had, list(map(Grant.read, after))), Allowed)


def test_who_manages_whom() -> None:
    root, acme = who("security-admin:/"), who("security-admin:/acme")
    assert may(root, None, ["security-admin:/", "auditor:/", "operator:/", "viewer:/", "policy-editor:/"])
    assert may(root, None, [])
    assert may(root, ["security-admin:/"], [])
    assert may(acme, None, ["auditor:/acme", "security-admin:/acme/shop"])
    assert may(acme, ["viewer:/acme"], ["operator:/acme"])
    assert not may(acme, None, [])
    assert not may(acme, [], ["viewer:/acme"])
    assert not may(acme, ["viewer:/acme"], [])
    assert not may(acme, None, ["viewer:/"])
    assert not may(acme, ["viewer:/acme", "viewer:/globex"], ["viewer:/acme"])
    for other in ("viewer", "operator", "policy-editor", "auditor"):
        assert not may(who(f"{other}:/"), None, [f"{other}:/"])


def test_the_home_of_grants_contains_them_all() -> None:
    def of(*grants: str) -> Scope:
        return home(map(Grant.read, grants))

    assert of() == ROOT
    assert of("viewer:/acme/shop") == "/acme/shop"
    assert of("viewer:/acme/shop", "viewer:/acme/crm") == "/acme"
    assert of("viewer:/acme/shop", "viewer:/acme") == "/acme"
    assert of("viewer:/acme", "viewer:/globex") == ROOT
