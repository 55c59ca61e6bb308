"""Policies: subjects, peers and ports resolved, and what may not stand together refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from serai.model import resources
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Network
from serai.model.policy import (
    Action,
    Clause,
    Direction,
    Group,
    InCidr,
    OnNetwork,
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.ports import parse_ports
from serai.model.references import Scopes, Table
from serai.model.resources import PeerSpec, RuleSpec, path_of
from serai.model.selectors import Selector
from serai.model.tenancy import Scope

_PEERS_FIELD = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def resolve_policies(
    definitions: Sequence[Definition[resources.Policy]],
    services: Sequence[Definition[resources.Service]],
    scopes: Scopes,
    networks: Mapping[str, Network],
    complaints: Complaints,
) -> tuple[Policy, ...]:
    """Return the policies in order of path."""
    for service in services:
        scopes.check(service, ("metadata", "scope"), service.resource.metadata.scope)
    by_path = {path_of(service.resource): service.resource for service in services}
    service_table = Table("Service", by_path, complaints)
    network_table = Table("Network", networks, complaints)
    resolved = (
        _PolicyResolver(definition, scopes, service_table, network_table, complaints).policy()
        for definition in definitions
    )
    return tuple(sorted(resolved, key=lambda policy: (policy.scope, policy.name)))


class _PolicyResolver:
    """Resolves one policy."""

    def __init__(
        self,
        definition: Definition[resources.Policy],
        scopes: Scopes,
        services: Table[resources.Service],
        networks: Table[Network],
        complaints: Complaints,
    ) -> None:
        self._definition = definition
        self._scope = definition.resource.metadata.scope
        self._spec = definition.resource.spec
        self._scopes = scopes
        self._services = services
        self._networks = networks
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
        return _group(scope, subject.selector)

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
        ports = None if spec.ports is None else self._ports(path, spec.ports)
        clauses: Iterable[Clause | None]
        if peers is None:
            clauses = [Clause(ports=ports or ())]
        else:
            clauses = [
                self._clause((*path, _PEERS_FIELD[direction], position), peer, ports)
                for position, peer in enumerate(peers)
            ]
        return Rule(
            ref=RuleRef.of(self._scope, self._definition.resource.metadata.name, direction, spec.name),
            action=spec.action,
            clauses=tuple(clause for clause in clauses if clause),
        )

    def _clause(self, path: Path, spec: PeerSpec, ports: tuple[PortRange, ...] | None) -> Clause | None:
        """Resolve one peer on the rule's ports (None: the rule names none); None where it cannot be."""
        if spec.service is not None:
            service = self._services.find(self._definition, (*path, "service"), spec.service, self._scope)
            if service is None:
                return None
            if service.spec.selector is None:
                message = f"the service {path_of(service)} has no selector, so it stands for no VMs"
                self._complain((*path, "service"), message)
                return None
            group = _group(service.metadata.scope, service.spec.selector)
            return Clause(peer=group, ports=_service_ports(service) if ports is None else ports)
        peer = self._peer(path, spec)
        return Clause(peer=peer, ports=ports or ()) if peer else None

    def _peer(self, path: Path, spec: PeerSpec) -> Peer | None:
        if spec.cidr is not None:
            return InCidr(prefix=spec.cidr)
        if spec.network is not None:
            network = self._networks.find(self._definition, (*path, "network"), spec.network, self._scope)
            return OnNetwork(path=network.path) if network else None
        if spec.scope is not None:
            self._scopes.check(self._definition, (*path, "scope"), spec.scope)
        return _group(self._scope if spec.scope is None else spec.scope, spec.selector)

    def _ports(self, path: Path, specs: Sequence[str]) -> tuple[PortRange, ...]:
        ranges: list[PortRange] = []
        for position, text in enumerate(specs):
            ports = parse_ports(text)
            if ports is not None:
                ranges.append(ports)
                continue
            service = self._services.find(self._definition, (*path, "ports", position), text, self._scope)
            if service is not None:
                ranges.extend(_service_ports(service))
        return tuple(ranges)


def _group(scope: Scope, selector: Selector | None) -> Group:
    return Group(scope=scope, expressions=selector.expressions() if selector else frozenset())


def _service_ports(service: resources.Service) -> tuple[PortRange, ...]:
    return tuple(ports for text in service.spec.ports if (ports := parse_ports(text)))
