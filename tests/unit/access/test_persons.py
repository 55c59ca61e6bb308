"""Whatever security-admins make of each other, together they never do more than they could."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.access import decide as decide_module
from serai.access.decide import Allowed, Caller, Subject, decide
from serai.access.persons import home, may_manage
from serai.access.rights import REACHES, Matter, Reach
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


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(SCOPES),
    st.fixed_dictionaries(dict.fromkeys(NAMES[:3], SETS)),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), SETS), max_size=12),
)
def test_no_acts_give_anybody_more_than_the_actors_had(
    scope: Scope, everybody: Everybody, acts: list[tuple[str, str, tuple[Grant, ...]]]
) -> None:
    everybody |= {"ann": (*everybody["ann"], Grant(Role.SECURITY_ADMIN, scope))}
    known = functools.cache(rights)
    at_first = known(everybody["ann"])
    # Whoever is changed may be given another password, so that ann is them, too, from then on.
    conspirators = {"ann"}
    for actor, target, grants in [*(("ann", name, everybody.get(name, ())) for name in NAMES), *acts]:
        caller = Caller(name=actor, grants=everybody.get(actor, ()))
        if actor in conspirators and isinstance(may_manage(caller, target, everybody.get(target), grants), Allowed):
            everybody |= {target: grants}
            conspirators.add(target)
        assert set().union(*(known(everybody.get(name, ())) for name in conspirators)) <= at_first


def test_whoever_is_let_manage_people_gives_away_no_more_than_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another table: the day that operators manage people, they do not make themselves security-admins."""
    everybody = dict.fromkeys(Role, Reach.YES)
    monkeypatch.setattr(decide_module, "REACHES", REACHES | {(Verb.MANAGE_PEOPLE, Matter.ANYTHING): everybody})
    assert may(who("operator:/"), None, ["operator:/acme", "viewer:/"])
    assert not may(who("operator:/"), None, ["security-admin:/"])
    assert not may(who("operator:/"), ["security-admin:/acme"], ["viewer:/acme"])
    assert not may(who("operator:/acme"), None, ["operator:/"])


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
