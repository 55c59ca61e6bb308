"""Who may do what, where: grants on one side, what is asked for on the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from serai.access.rights import PROVIDER_FIELDS, REACHES, Matter, Reach
from serai.access.roles import Grant, Role
from serai.access.verbs import Verb
from serai.model.policy import Tier
from serai.model.tenancy import ROOT, Scope

_RULES: Final = frozenset({"Service", "Invariant"})
_INVENTORY: Final = frozenset({"Network", "VirtualMachine"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who asks for something."""

    name: str
    grants: tuple[Grant, ...]
    """The person's own, as they are now."""
    within: tuple[Grant, ...] | None = None
    """What the token that was shown is limited to: these must allow it too. None: it is not limited."""
    token: str = ""
    """The id of that token, for the audit log."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What something is done to."""

    scope: Scope
    kind: str | None = None
    """Of a resource."""
    tier: Tier | None = None
    """Of a Policy; one whose tier nobody told counts as Admin."""
    field: str | None = None
    """The field of ``spec`` that makes it the provider's matter; see ``PROVIDER_FIELDS``."""

    @property
    def matter(self) -> Matter:
        """What this is as far as rights tell it apart; a kind that is not known is the provider's."""
        if self.field is not None:
            return Matter.PROVIDER
        if self.kind is None:
            return Matter.ANYTHING
        if self.kind == "Policy":
            return Matter.RULES if self.tier in (Tier.TENANT, Tier.BASELINE) else Matter.ADMIN_RULES
        if self.kind in _RULES:
            return Matter.RULES
        return Matter.INVENTORY if self.kind in _INVENTORY else Matter.PROVIDER

    def __str__(self) -> str:
        what = self.kind or ""
        if self.field is not None:
            what += f" with its own {self.field}"
        elif self.kind == "Policy" and self.matter is Matter.ADMIN_RULES:
            what += " of the tier Admin"
        return f"{what} in {self.scope}".strip()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """It may be done."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It may not be done."""

    why: str
    """A sentence for whoever asked."""


Decision = Allowed | Refused


def decide(caller: Caller, verb: Verb, what: Subject) -> Decision:
    """Say whether ``caller`` may do ``verb`` to ``what``."""
    if not _holds(caller.grants, verb, what.matter, what.scope):
        return Refused(why=f"{caller.name} may not {verb} {what}: {_wanted(verb, what)}")
    if caller.within is not None and not _holds(caller.within, verb, what.matter, what.scope):
        return Refused(why=f"this token of {caller.name} may not {verb} {what}: it is limited; use another")
    return Allowed()


def decide_all(caller: Caller, verb: Verb, subjects: Iterable[Subject]) -> Decision:
    """Say whether ``caller`` may do ``verb`` to all of ``subjects``; else, what is in the way first."""
    decisions = (decide(caller, verb, subject) for subject in subjects)
    return next((decision for decision in decisions if isinstance(decision, Refused)), Allowed())


def covers(caller: Caller, grant: Grant) -> bool:
    """Say whether ``caller`` may do whatever ``grant`` would allow: then giving it away makes nobody more than that."""
    return all(
        _holds(held, verb, matter, grant.scope)
        for held in (caller.grants, *(() if caller.within is None else (caller.within,)))
        for (verb, matter), reaches in REACHES.items()
        if _gives(grant, reaches[grant.role], grant.scope)
    )


def scopes(caller: Caller, verb: Verb) -> frozenset[Scope]:
    """Return the highest scopes in which ``caller`` may do ``verb``, of those verbs that ask for no kind of resource.

    It may in each of them and below, and nowhere else: what lists of anything are cut down to.
    """
    reaches = REACHES.get((verb, Matter.ANYTHING), {})
    all_grants = (*caller.grants, *(caller.within or ()))
    candidates = {grant.scope for grant in all_grants if reaches.get(grant.role, Reach.NO) is not Reach.NO}
    allowed = {scope for scope in candidates if isinstance(decide(caller, verb, Subject(scope=scope)), Allowed)}
    return frozenset(s for s in allowed if not any(other != s and other.contains(s) for other in allowed))


def _holds(grants: Iterable[Grant], verb: Verb, matter: Matter, scope: Scope) -> bool:
    reaches = REACHES.get((verb, matter)) or REACHES.get((verb, Matter.ANYTHING), {})
    return any(_gives(grant, reaches.get(grant.role, Reach.NO), scope) for grant in grants)


def _gives(grant: Grant, reach: Reach, scope: Scope) -> bool:
    """Say whether a grant gives, in a scope, a right that its role has with such a reach."""
    match reach:
        case Reach.NO:
            return False
        case Reach.YES:
            return grant.scope.contains(scope)
        case Reach.ROOT:
            return grant.scope == ROOT


def _wanted(verb: Verb, what: Subject) -> str:
    reaches = REACHES.get((verb, what.matter)) or REACHES.get((verb, Matter.ANYTHING), {})
    roles = [role for role in Role if reaches.get(role, Reach.NO) is not Reach.NO]
    if not roles:
        return "nobody may"
    where = "in /" if Reach.ROOT in reaches.values() else "there or above"
    field = f", or leave {what.field} as it was" if what.field in PROVIDER_FIELDS.get(what.kind or "", ()) else ""
    return f"it takes {' or '.join(roles)} {where}{field}"
