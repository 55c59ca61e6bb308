"""When a change needs a second person, and who that may be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from serai.access.change import Change, may_change, touched
from serai.access.decide import Caller, Decision, Refused
from serai.access.verbs import Verb
from serai.model.resources import Resource, Site, Tenant
from serai.model.tenancy import ROOT, Scope

Marks = Mapping[Scope, int]
"""How many people must stand behind a change in a scope or below, by the scope that says so."""


def marks(resources: Iterable[Resource]) -> dict[Scope, int]:
    """Read off the Site, Tenants and applications what they say about approval; those that ask for one person are left out."""
    found: dict[Scope, int] = {}
    for resource in resources:
        if isinstance(resource, Site):
            found[ROOT] = resource.spec.approval
        elif isinstance(resource, Tenant):
            scope = ROOT.child(resource.metadata.name)
            found[scope] = resource.spec.approval
            found |= {scope.child(each.name): each.approval for each in resource.spec.applications}
    return {scope: approval for scope, approval in found.items() if approval > 1}


def needed(changes: Iterable[Change], in_force: Marks) -> int:
    """Return how many people must stand behind ``changes``, their author included.

    Only the marks in force count: who takes one away, or lowers it, touches its scope, and needs what it asks for.
    """
    scopes = {above for change in changes for scope in touched(change) for above in scope.lineage}
    return max((in_force.get(scope, 1) for scope in scopes), default=1)


def may_approve(approver: Caller, author: str, behind: Collection[str], changes: Iterable[Change]) -> Decision:
    """Say whether ``approver`` may stand behind a change of ``author``, behind which stand ``behind`` already."""
    if approver.name == author:
        return Refused(why=f"{author} cannot approve a change of their own: somebody else must")
    if approver.name in behind:
        return Refused(why=f"{approver.name} has approved this already: somebody else must")
    return may_change(approver, changes, Verb.APPROVE)
