"""Who may do what: all roles, verbs, kinds and scopes against a table written by hand, and what must hold whatever it says."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.access.decide import Allowed, Caller, Subject, covers, decide, decide_all, scopes
from serai.access.rights import REACHES, RIGHTS, Matter, Reach
from serai.access.roles import Grant, Role
from serai.access.verbs import Verb
from serai.model.policy import Tier
from serai.model.resources import KINDS
from serai.model.tenancy import ROOT, Scope

SCOPES = [Scope(text) for text in ("/", "/acme", "/acme/shop", "/acme/shopping", "/acmes", "/globex", "/globex/shop")]

# Written from docs/ACCESS.md's promises, not from the code's table: for each verb and thing, the roles that may do it where
# they were granted ("v o p s a": viewer, operator, policy-editor, security-admin, auditor); in capitals: only those granted in /.
ORACLE = """
read watch plan ask                 | *                                  | v o p s a
write delete rollback approve       | Policy:Tenant Policy:Baseline      | p s
write delete rollback approve       | Service Invariant                  | p s
write delete rollback approve       | Policy:Admin Policy                | s
write delete rollback approve       | Network VirtualMachine             | s
write delete rollback approve       | Site Tenant Host Unheard           | S
write delete rollback approve       | Pool PlacementRule Image           | S
write delete rollback approve       | -                                  |
confirm                             | Policy:Tenant Policy:Baseline      | o p s
confirm                             | Service Invariant                  | o p s
confirm                             | Policy:Admin Policy                | o s
confirm                             | Network VirtualMachine             | o s
confirm                             | Site Tenant Host Unheard           | O S
confirm                             | Pool PlacementRule Image           | O S
confirm                             | -                                  |
read-hosts read-metrics             | *                                  | V O P S A
join-host move                      | *                                  | O S
revoke-host backup                  | *                                  | S
read-audit read-people              | *                                  | s a
manage-people                       | *                                  | s
manage-tokens                       | *                                  | v o p s a
"""
LETTERS = dict(zip("vopsa", Role, strict=True))
KIND_NAMES = ["-", "Policy", *(f"Policy:{tier}" for tier in Tier), *(k for k in KINDS if k != "Policy"), "Unheard"]


def oracle() -> dict[tuple[Verb, str], tuple[set[Role], set[Role]]]:
    """For each verb and kind: who may where they were granted, and who only in /."""
    table = {}
    for line in ORACLE.strip().splitlines():
        verbs, kinds, letters = (part.split() for part in line.split("|"))
        row = {LETTERS[x] for x in letters if x.islower()}, {LETTERS[x.lower()] for x in letters if x.isupper()}
        for verb, kind in itertools.product(verbs, KIND_NAMES if kinds == ["*"] else kinds):
            assert (Verb(verb), kind) not in table
            table[Verb(verb), kind] = row
    return table


TABLE = oracle()


def subject(scope: Scope, kind: str) -> Subject:
    name, _, tier = kind.partition(":")
    return Subject(scope=scope, kind=None if kind == "-" else name, tier=Tier(tier) if tier else None)


def inside(outer: str, inner: str) -> bool:
    """Written otherwise than ``Scope.contains``: name by name."""
    a, b = [[part for part in text.split("/") if part] for text in (outer, inner)]
    return b[: len(a)] == a


def may(grants: tuple[Grant, ...], verb: Verb, what: Subject, within: tuple[Grant, ...] | None = None) -> bool:
    return isinstance(decide(Caller(name="ann", grants=grants, within=within), verb, what), Allowed)


def test_the_oracle_speaks_of_everything() -> None:
    assert TABLE.keys() == set(itertools.product(Verb, KIND_NAMES))


@pytest.mark.parametrize("verb", Verb)
def test_every_role_kind_and_scope(verb: Verb) -> None:
    tried = 0
    for kind, role, granted, asked in itertools.product(KIND_NAMES, Role, SCOPES, SCOPES):
        anywhere, at_root = TABLE[verb, kind]
        expected = (role in anywhere and inside(granted, asked)) or (role in at_root and granted == "/")
        assert may((Grant(role, granted),), verb, subject(asked, kind)) == expected, (verb, kind, role, granted, asked)
        tried += 1
    assert tried == len(KIND_NAMES) * 5 * 49


GRANTS = st.builds(Grant, st.sampled_from(Role), st.sampled_from(SCOPES))
MANY = st.lists(GRANTS, max_size=4).map(tuple)
SUBJECTS = st.builds(subject, st.sampled_from(SCOPES), st.sampled_from(KIND_NAMES))


@given(MANY, GRANTS, st.sampled_from(Verb), SUBJECTS)
def test_widening_a_grant_or_adding_one_loses_no_right(
    grants: tuple[Grant, ...], one: Grant, verb: Verb, what: Subject
) -> None:
    before = may((*grants, one), verb, what)
    for wider in one.scope.lineage:
        assert may((*grants, Grant(one.role, wider)), verb, what) >= before
    assert before >= may(grants, verb, what)


@given(
    st.lists(GRANTS.filter(lambda g: inside("/acme", g.scope)), max_size=4).map(tuple), st.sampled_from(Verb), SUBJECTS
)
def test_a_tenants_grants_give_nothing_outside_it(grants: tuple[Grant, ...], verb: Verb, what: Subject) -> None:
    if not inside("/acme", what.scope):
        assert not may(grants, verb, what)
    if what.kind in {"Site", "Tenant", "Host"} and verb in {
        Verb.WRITE,
        Verb.DELETE,
        Verb.ROLLBACK,
        Verb.APPROVE,
        Verb.CONFIRM,
    }:
        assert not may(grants, verb, what)
    if verb in {Verb.JOIN_HOST, Verb.MOVE, Verb.REVOKE_HOST, Verb.READ_HOSTS, Verb.BACKUP, Verb.READ_METRICS}:
        assert not may(grants, verb, what)


@given(MANY, MANY, st.sampled_from(Verb), SUBJECTS)
def test_a_token_does_what_both_it_and_its_owner_may(
    grants: tuple[Grant, ...], within: tuple[Grant, ...], verb: Verb, what: Subject
) -> None:
    assert may(grants, verb, what, within) == (may(grants, verb, what) and may(within, verb, what))


@given(MANY, GRANTS)
def test_covering_a_grant_is_having_all_that_it_gives(grants: tuple[Grant, ...], one: Grant) -> None:
    everything = [(verb, subject(scope, kind)) for verb, kind, scope in itertools.product(Verb, KIND_NAMES, SCOPES)]
    had = all(may(grants, verb, what) for verb, what in everything if may((one,), verb, what))
    assert covers(Caller(name="ann", grants=grants), one) == had


@given(MANY, st.sampled_from([Verb.READ, Verb.READ_AUDIT, Verb.READ_PEOPLE]), st.sampled_from(SCOPES))
def test_the_scopes_of_a_verb_are_those_in_which_it_may_be_done(
    grants: tuple[Grant, ...], verb: Verb, asked: Scope
) -> None:
    found = scopes(Caller(name="ann", grants=grants), verb)
    assert any(scope.contains(asked) for scope in found) == may(grants, verb, Subject(scope=asked))
    assert not any(a != b and a.contains(b) for a in found for b in found)


def test_a_limited_token_cuts_scopes_down() -> None:
    ann = Caller(name="ann", grants=(Grant(Role.VIEWER, ROOT),), within=(Grant(Role.VIEWER, Scope("/acme")),))
    assert scopes(ann, Verb.READ) == {Scope("/acme")}


def test_refusals_say_what_it_takes() -> None:
    acme = Scope("/acme")
    ann = Caller(name="ann", grants=(Grant(Role.POLICY_EDITOR, acme),), within=(Grant(Role.VIEWER, acme),))

    def why(verb: Verb, what: Subject) -> str:
        decision = decide(ann, verb, what)
        assert not isinstance(decision, Allowed)
        return decision.why

    assert why(Verb.WRITE, Subject(scope=acme, kind="Policy", tier=Tier.ADMIN)) == (
        "ann may not write Policy of the tier Admin in /acme: it takes security-admin there or above"
    )
    assert (
        why(Verb.WRITE, Subject(scope=ROOT, kind="Site")) == "ann may not write Site in /: it takes security-admin in /"
    )
    assert why(Verb.WRITE, Subject(scope=acme, kind="Network", field="vni")) == (
        "ann may not write Network with its own vni in /acme: it takes security-admin in /, or leave vni as it was"
    )
    assert why(Verb.WRITE, Subject(scope=acme, kind="Service")) == (
        "this token of ann may not write Service in /acme: it is limited; use another"
    )
    assert why(Verb.WRITE, Subject(scope=acme)) == "ann may not write in /acme: nobody may"
    assert decide_all(ann, Verb.READ, [Subject(scope=acme), Subject(scope=ROOT)]) == decide(
        ann, Verb.READ, Subject(scope=ROOT)
    )


def test_every_verb_and_matter_is_in_the_table_once() -> None:
    assert len(REACHES) == sum(len(verbs) for verbs, _ in RIGHTS)
    assert {verb for verb, _ in REACHES} == set(Verb)
    for verb in Verb:
        matters = {matter for other, matter in REACHES if other == verb}
        assert matters in ({Matter.ANYTHING}, set(Matter) - {Matter.ANYTHING})
    assert Reach.ROOT in {reach for reaches in REACHES.values() for reach in reaches.values()}


@pytest.mark.parametrize(
    "text", ["operator", "operator:", "king:/", "operator:acme", "operator:/Acme", ":/", "operator: /"]
)
def test_what_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Grant.read(text)


@given(GRANTS)
def test_grants_are_read_as_they_are_written(grant: Grant) -> None:
    assert Grant.read(str(grant)) == grant
