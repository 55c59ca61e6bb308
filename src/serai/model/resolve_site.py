"""The Site and its Tenants: which scopes there are, in which mode, and what is said of connections that no tier decides."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from serai.model import resources
from serai.model.address import Prefix, in_order
from serai.model.definitions import Complaints, Definition, Path
from serai.model.policy import Action, Direction
from serai.model.tenancy import ROOT, Mode, Scope
from serai.model.world import LAST_WORD

PROVIDER_DOMAIN: Final = "provider"
"""The routing domain of the provider's own networks, unless they name another."""


def scopes_of(tenant: resources.Resource) -> dict[Scope, Mode | None]:
    """Return the scopes that a Tenant declares, each with the mode that it sets; other resources declare none."""
    if not isinstance(tenant, resources.Tenant):
        return {}
    scope = ROOT.child(tenant.metadata.name)
    applications = {scope.child(each.name): each.mode for each in tenant.spec.applications}
    return {scope: tenant.spec.mode, **applications}


def check_tenant(definition: Definition[resources.Tenant], complaints: Complaints) -> None:
    """Complain about names that mean something else already."""
    name = definition.resource.metadata.name
    if name == PROVIDER_DOMAIN:
        message = f"{name!r} is the provider's own routing domain: choose another name"
        complaints.about(definition, ("metadata", "name"), message)
    known: set[str] = set()
    for number, application in enumerate(definition.resource.spec.applications):
        if application.name in known:
            path: Path = ("spec", "applications", number, "name")
            complaints.about(definition, path, f"there are two applications {application.name!r}")
        known.add(application.name)


def last_word(site: resources.Site | None) -> Mapping[Direction, Action]:
    """Return what is said of a connection that no tier decides."""
    if site is None:
        return MappingProxyType(dict(LAST_WORD))
    defaults = site.spec.defaults
    return MappingProxyType({Direction.INGRESS: Action(defaults.ingress), Direction.EGRESS: Action(defaults.egress)})


def quarantine(site: resources.Site | None) -> tuple[Prefix, ...]:
    """Return what VMs in quarantine may reach, in order."""
    return tuple(sorted(set(site.spec.quarantine.allow), key=in_order)) if site else ()
