"""Invariants: peers and ports resolved, and what is not their scope's business refused."""

from __future__ import annotations

from collections.abc import Sequence

from serai.model import resources
from serai.model.definitions import Complaints, Definition, Path
from serai.model.invariant import Claim, Invariant
from serai.model.peers import PeerSpec
from serai.model.policy import Clause, Group, OnNetwork, Peer
from serai.model.references import Scopes
from serai.model.resolve_peers import Peers
from serai.model.resources import path_of
from serai.model.tenancy import ROOT, Scope


def resolve_invariant(
    definition: Definition[resources.Invariant], scopes: Scopes, peers: Peers, complaints: Complaints
) -> Invariant:
    """Return an invariant; whole where there is nothing to complain about."""
    metadata, spec = definition.resource.metadata, definition.resource.spec
    scopes.check(definition, ("metadata", "scope"), metadata.scope)
    [(claim, about)] = spec.claims().items()
    path: Path = ("spec", claim.value)
    ports = None if about.ports is None else peers.ports(definition, path, about.ports)

    def clauses(field: str, specs: Sequence[PeerSpec] | None) -> tuple[Clause | None, ...]:
        if specs is None:
            return (Clause(ports=ports or ()),)
        return tuple(peers.clause(definition, (*path, field, at), each, ports) for at, each in enumerate(specs))

    sources, targets = clauses("from", about.sources), clauses("to", about.targets)
    # What could not be resolved has been complained about already.
    if None not in (*sources, *targets) and not _is_own(metadata.scope, claim, sources, targets):
        complaints.about(definition, path, _not_own(metadata.scope, claim))
    return Invariant(
        path=path_of(definition.resource),
        scope=metadata.scope,
        description=spec.description or "",
        claim=claim,
        sources=tuple(clause.peer for clause in sources if clause),
        targets=tuple(clause for clause in targets if clause),
    )


def _is_own(scope: Scope, claim: Claim, sources: Sequence[Clause | None], targets: Sequence[Clause | None]) -> bool:
    """Say whether the claim is about VMs of ``scope``: nobody else's connections are its business."""
    sides = (targets,) if claim is Claim.ONLY else (targets, sources)
    return scope == ROOT or any(all(clause and _lies_in(scope, clause.peer) for clause in side) for side in sides)


def _lies_in(scope: Scope, peer: Peer | None) -> bool:
    match peer:
        case Group():
            return scope.contains(peer.scope)
        case OnNetwork():
            return scope.contains(Scope(peer.path.rpartition(":")[0]))
        case _:
            return False  # an address may be anybody's


def _not_own(scope: Scope, claim: Claim) -> str:
    side = "'to'" if claim is Claim.ONLY else "'from' or in 'to'"
    ways = "by selector, scope, network or service"
    return f"is not about {scope}: in {side}, name VMs of {scope} alone, {ways}, or put it into a scope above"
