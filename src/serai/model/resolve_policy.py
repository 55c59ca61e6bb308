"""Policies: subjects, peers and ports resolved, and what may not stand together refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from serai.model import resources
from serai.model.definitions import Complaints, Definition, Path
from serai.model.policy import Action, Clause, Direction, Group, Policy, Rule, RuleRef, Tier
from serai.model.references import Scopes
from serai.model.resolve_peers import Peers, group
from serai.model.resources import RuleSpec

_PEERS_FIELD = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def resolve_policy(
    definition: Definition[resources.Policy], scopes: Scopes, peers: Peers, complaints: Complaints
) -> Policy:
    """Return a policy; whole where there is nothing to complain about."""
    return _PolicyResolver(definition, scopes, peers, complaints).policy()


class _PolicyResolver:
    """Resolves one policy."""

    def __init__(
        self, definition: Definition[resources.Policy], scopes: Scopes, peers: Peers, complaints: Complaints
    ) -> None:
        self._definition = definition
        self._scope = definition.resource.metadata.scope
        self._spec = definition.resource.spec
        self._scopes = scopes
        self._peers = peers
        self._complaints = complaints

    def policy(self) -> Policy:
        self._scopes.check(self._definition, ("metadata", "scope"), self._scope)
        rules = {direction: self._rules(direction, specs) for direction, specs in self._spec.rules().items()}
        return Policy(
            name=self._definition.resource.metadata.name,
            scope=self._scope,
            tier=self._spec.tier,
            priority=self._spec.priority,
            staged=self._spec.staged,
            subject=self._subject(),
            rules=MappingProxyType(rules),
        )

    def _complain(self, path: Path, message: str) -> None:
        self._complaints.about(self._definition, path, message)

    def _subject(self) -> Group:
        subject = self._spec.subject
        scope = self._scope if subject.scope is None else subject.scope
        if not self._scope.contains(scope):
            message = f"{scope} lies outside {self._scope}: a policy can only select VMs of its own scope"
            self._complain(("spec", "subject", "scope"), message)
        elif scope != self._scope:
            self._scopes.check(self._definition, ("spec", "subject", "scope"), scope)
        return group(scope, subject.selector)

    def _rules(self, direction: Direction, specs: Sequence[RuleSpec]) -> tuple[Rule, ...]:
        return tuple(self._rule(direction, specs, number) for number in range(len(specs)))

    def _rule(self, direction: Direction, specs: Sequence[RuleSpec], number: int) -> Rule:
        spec = specs[number]
        path: Path = ("spec", str(direction), number)
        if any(spec.name == other.name for other in specs[:number]):
            self._complain((*path, "name"), f"there are two {direction} rules {spec.name!r}")
        if spec.action is Action.PASS and self._spec.tier is not Tier.ADMIN:
            message = f"Pass means something in the Admin tier only, not in {self._spec.tier}"
            self._complain((*path, "action"), message)
        peers = spec.peers if isinstance(spec, resources.IngressRuleSpec | resources.EgressRuleSpec) else None
        ports = None if spec.ports is None else self._peers.ports(self._definition, path, spec.ports)
        clauses: Iterable[Clause | None]
        if peers is None:
            clauses = [Clause(ports=ports or ())]
        else:
            clauses = [
                self._peers.clause(self._definition, (*path, _PEERS_FIELD[direction], position), peer, ports)
                for position, peer in enumerate(peers)
            ]
        return Rule(
            ref=RuleRef.of(self._scope, self._definition.resource.metadata.name, direction, spec.name),
            action=spec.action,
            clauses=tuple(clause for clause in clauses if clause),
        )
