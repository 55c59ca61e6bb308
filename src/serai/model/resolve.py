"""Well-formed resources to a world: every reference resolved, every contradiction found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from serai.model import resources
from serai.model.address import Prefix, in_order
from serai.model.definitions import Complaints, Definition, Path
from serai.model.policy import Action, Direction
from serai.model.references import Scopes
from serai.model.resolve_invariant import resolve_invariants
from serai.model.resolve_inventory import PROVIDER_DOMAIN, resolve_hosts, resolve_networks, resolve_vms
from serai.model.resolve_peers import Peers
from serai.model.resolve_policy import resolve_policies
from serai.model.tenancy import ROOT, Mode, Scope
from serai.model.world import LAST_WORD, World

T = TypeVar("T")
R = TypeVar("R", bound=resources.Resource)


def resolve(definitions: Iterable[Definition[resources.Resource]], complaints: Complaints) -> World:
    """Build the world out of resources in any order.

    What is wrong goes to ``complaints``; the result is only whole when there are none.
    """
    # First come, first served must mean the same whatever the order is that they come in.
    ordered = sorted(definitions, key=lambda d: (d.file, d.lines[()]))
    unique = _without_duplicates(ordered, complaints)
    sites = _only_one(_of(unique, resources.Site), complaints)
    scopes = _scopes(sites, _of(unique, resources.Tenant), complaints)
    hosts = resolve_hosts(_of(unique, resources.Host))
    networks = resolve_networks(_of(unique, resources.Network), scopes, complaints)
    peers = Peers.of(_of(unique, resources.Service), networks, scopes, complaints)
    return World(
        hosts=_sorted(hosts),
        networks=_sorted(networks),
        vms=_sorted(resolve_vms(_of(unique, resources.VirtualMachine), scopes, networks, hosts, complaints)),
        policies=resolve_policies(_of(unique, resources.Policy), scopes, peers, complaints),
        last_word=_last_word(sites),
        quarantine=_quarantine(sites),
        invariants=resolve_invariants(_of(unique, resources.Invariant), scopes, peers, complaints),
    )


def _sorted(table: Mapping[str, T]) -> Mapping[str, T]:
    return MappingProxyType(dict(sorted(table.items())))


def _of(definitions: Iterable[Definition[resources.Resource]], kind: type[R]) -> list[Definition[R]]:
    """Pick the resources of one kind."""
    return [
        Definition(resource=d.resource, file=d.file, lines=d.lines) for d in definitions if isinstance(d.resource, kind)
    ]


def _without_duplicates(
    definitions: Sequence[Definition[resources.Resource]], complaints: Complaints
) -> list[Definition[resources.Resource]]:
    first: dict[str, Definition[resources.Resource]] = {}
    for definition in definitions:
        name = resources.label(definition.resource)
        if name in first:
            path: Path = ("metadata", "name")
            complaints.about(definition, path, f"is defined already, at {first[name].place}")
        else:
            first[name] = definition
    return list(first.values())


def _only_one(sites: list[Definition[resources.Site]], complaints: Complaints) -> list[resources.Site]:
    for site in sites[1:]:
        complaints.about(site, (), f"there can be only one Site: the first is at {sites[0].place}")
    return [site.resource for site in sites[:1]]


def _scopes(sites: list[resources.Site], tenants: list[Definition[resources.Tenant]], complaints: Complaints) -> Scopes:
    modes: dict[Scope, Mode | None] = {ROOT: sites[0].spec.mode if sites else None}
    for tenant in tenants:
        name = tenant.resource.metadata.name
        if name == PROVIDER_DOMAIN:
            message = f"{name!r} is the provider's own routing domain: choose another name"
            complaints.about(tenant, ("metadata", "name"), message)
        scope = ROOT.child(name)
        modes[scope] = tenant.resource.spec.mode
        for number, application in enumerate(tenant.resource.spec.applications):
            child = scope.child(application.name)
            if child in modes:
                path: Path = ("spec", "applications", number, "name")
                complaints.about(tenant, path, f"there are two applications {application.name!r}")
            modes[child] = application.mode
    return Scopes(modes, complaints)


def _last_word(sites: list[resources.Site]) -> MappingProxyType[Direction, Action]:
    if not sites:
        return MappingProxyType(dict(LAST_WORD))
    defaults = sites[0].spec.defaults
    return MappingProxyType({Direction.INGRESS: Action(defaults.ingress), Direction.EGRESS: Action(defaults.egress)})


def _quarantine(sites: list[resources.Site]) -> tuple[Prefix, ...]:
    return tuple(sorted({prefix for site in sites for prefix in site.spec.quarantine.allow}, key=in_order))
