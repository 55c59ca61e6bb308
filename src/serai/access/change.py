"""What a change of resources touches, as far as rights and second persons go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from serai.access.decide import Allowed, Caller, Decision, Refused, Subject, decide_all
from serai.access.rights import PROVIDER_FIELDS
from serai.access.verbs import Verb
from serai.model.resources import PlacementRule, Policy, Resource, Tenant, VirtualMachine
from serai.model.tenancy import ROOT, Scope


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one resource."""

    before: Resource | None
    """None: it is new."""
    after: Resource | None
    """None: it is deleted."""


def subject_of(resource: Resource) -> Subject:
    """Return what somebody who reads or writes the resource deals with."""
    tier = resource.spec.tier if isinstance(resource, Policy) else None
    return Subject(scope=_scope(resource), kind=resource.kind, tier=tier)


def subjects(change: Change) -> tuple[Subject, ...]:
    """Return all that a change needs leave for: what was, what becomes, and what only the provider sets.

    Who makes a Tenant policy out of an Admin one takes an Admin one away.
    """
    there = [resource for resource in (change.before, change.after) if resource is not None]
    return tuple(dict.fromkeys([*map(subject_of, there), *_providers(change)]))


def may_change(caller: Caller, changes: Iterable[Change], verb: Verb | None = None) -> Decision:
    """Say whether ``caller`` may make all of ``changes``; with ``verb``, confirm them, approve them and so on."""
    for change in changes:
        does = verb or (Verb.DELETE if change.after is None else Verb.WRITE)
        decision = decide_all(caller, does, subjects(change))
        if isinstance(decision, Refused):
            return decision
    return Allowed()


def touched(change: Change) -> frozenset[Scope]:
    """Return the scopes that a change is made in.

    A Tenant stands in ``/`` but makes its own scope what it is, and each application that it says something else about;
    a Policy is a matter of the scope that it names as its subject, too, and a PlacementRule of that whose VMs it keeps apart.
    """
    found = set[Scope]()
    for resource in (change.before, change.after):
        if resource is None:
            continue
        found.add(_scope(resource))
        if isinstance(resource, Tenant):
            found.add(ROOT.child(resource.metadata.name))
        if isinstance(resource, Policy) and resource.spec.subject.scope is not None:
            found.add(resource.spec.subject.scope)
        if isinstance(resource, PlacementRule) and resource.spec.keep_apart and resource.spec.keep_apart.scope:
            found.add(resource.spec.keep_apart.scope)
    before, after = _applications(change.before), _applications(change.after)
    return frozenset(found | {scope for scope, _ in before ^ after})


def _scope(resource: Resource) -> Scope:
    return resource.metadata.scope or ROOT


def _applications(resource: Resource | None) -> set[tuple[Scope, object]]:
    if not isinstance(resource, Tenant):
        return set()
    scope = ROOT.child(resource.metadata.name)
    return {(scope.child(each.name), each.model_dump_json()) for each in resource.spec.applications}


def _providers(change: Change) -> Iterator[Subject]:
    """Go through what a change says that only the provider may say."""
    if change.after is None:
        return
    scope = _scope(change.after)
    for name in sorted(PROVIDER_FIELDS.get(change.after.kind, ())):
        unsaid = type(change.after.spec).model_fields[name].default
        old = unsaid if change.before is None else getattr(change.before.spec, name)
        if getattr(change.after.spec, name) != old:
            yield Subject(scope=scope, kind=change.after.kind, field=name)
    if _foreign(change.after) - _foreign(change.before):
        yield Subject(scope=scope, kind=change.after.kind, field="network of another tenant")


def _foreign(resource: Resource | None) -> frozenset[str]:
    """Return the networks of other tenants that a VM is attached to; a name without a scope finds only its own and the provider's."""
    if not isinstance(resource, VirtualMachine):
        return frozenset()
    named = {vnic.network for vnic in resource.spec.vnics if ":" in vnic.network}
    tenant = resource.metadata.scope.tenant
    return frozenset(path for path in named if Scope(path.partition(":")[0]).tenant not in (None, tenant))
