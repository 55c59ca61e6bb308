"""What a resource looks at: which others, if they came, went or changed, would have it mean something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from serai.model import resources
from serai.model.key import Key
from serai.model.peers import PeerSpec
from serai.model.ports import parse_ports
from serai.model.references import candidates
from serai.model.resources import Resource
from serai.model.tenancy import ROOT, Scope


def looks_at(resource: Resource) -> frozenset[Key]:
    """Return the names that have a bearing on what ``resource`` means, whether there is anything of that name or not.

    That of the Site is not among them: it has a bearing on every VM.
    """
    return frozenset(_looks_at(resource))


def _looks_at(resource: Resource) -> Iterator[Key]:
    match resource:
        case resources.Network() | resources.Service():
            yield from _declared(resource.metadata.scope)
        case resources.VirtualMachine():
            scope = resource.metadata.scope
            yield from _declared(scope)
            if resource.spec.host is not None:
                yield Key("Host", resource.spec.host)
            for network in {vnic.network for vnic in resource.spec.vnics}:
                yield from _named("Network", network, scope)
            for image in resource.spec.images:
                yield Key("Image", image)
        case resources.Pool():
            for host in resource.spec.hosts:
                yield Key("Host", host)
        case resources.PlacementRule():
            apart = resource.spec.keep_apart
            if apart is not None and apart.scope is not None:
                yield from _declared(apart.scope)
        case resources.Policy():
            scope, spec = resource.metadata.scope, resource.spec
            yield from _declared(scope)
            if spec.subject.scope is not None:
                yield from _declared(spec.subject.scope)
            for rules in (spec.ingress or (), spec.egress or ()):
                for rule in rules:
                    yield from _ports(rule.ports or (), scope)
                    yield from _peers(rule.peers or (), scope)
        case resources.Invariant():
            scope = resource.metadata.scope
            yield from _declared(scope)
            for claim in resource.spec.claims().values():
                yield from _ports(claim.ports or (), scope)
                yield from _peers((*(claim.sources or ()), *(claim.targets or ())), scope)


def _declared(scope: Scope) -> Iterator[Key]:
    """Whether a scope is there, and what mode comes down to it. That of the site comes down to all."""
    for level in scope.lineage:
        if level != ROOT:
            yield Key.of_scope(level)


def _named(kind: str, reference: str, scope: Scope) -> Iterator[Key]:
    for path in candidates(reference, scope):
        yield Key(kind, path)


def _ports(texts: Iterable[str], scope: Scope) -> Iterator[Key]:
    for text in texts:
        if parse_ports(text) is None:
            yield from _named("Service", text, scope)


def _peers(peers: Iterable[PeerSpec], scope: Scope) -> Iterator[Key]:
    for peer in peers:
        if peer.scope is not None:
            yield from _declared(peer.scope)
        if peer.network is not None:
            yield from _named("Network", peer.network, scope)
        if peer.service is not None:
            yield from _named("Service", peer.service, scope)
