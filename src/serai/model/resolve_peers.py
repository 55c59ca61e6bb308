"""Peers and ports of policies and invariants: references to Services, Networks and scopes resolved."""

from __future__ import annotations

from collections.abc import Sequence

from serai.model import resources
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Network
from serai.model.peers import PeerSpec
from serai.model.policy import Clause, Group, InCidr, OnNetwork, Peer, PortRange
from serai.model.ports import parse_ports
from serai.model.references import Scopes, Table
from serai.model.resources import path_of
from serai.model.selectors import Selector
from serai.model.tenancy import Scope

_Definition = Definition[resources.Policy] | Definition[resources.Invariant]


class Peers:
    """Resolves peers and ports, as seen from the scope of the resource that names them."""

    def __init__(
        self,
        scopes: Scopes,
        services: Table[resources.Service],
        networks: Table[Network],
        complaints: Complaints,
    ) -> None:
        """Take what peers may name."""
        self._scopes = scopes
        self._services = services
        self._networks = networks
        self._complaints = complaints

    def clause(
        self, definition: _Definition, path: Path, spec: PeerSpec, ports: tuple[PortRange, ...] | None
    ) -> Clause | None:
        """Resolve one peer on the ports beside it (None: there are none); None where it cannot be."""
        if spec.service is not None:
            return self._offered(definition, (*path, "service"), spec.service, ports)
        peer = self._peer(definition, path, spec)
        return Clause(peer=peer, ports=ports or ()) if peer else None

    def ports(self, definition: _Definition, path: Path, specs: Sequence[str]) -> tuple[PortRange, ...]:
        """Resolve the field ``ports`` of the part at ``path``."""
        ranges: list[PortRange] = []
        for position, text in enumerate(specs):
            ports = parse_ports(text)
            if ports is not None:
                ranges.append(ports)
                continue
            scope = definition.resource.metadata.scope
            service = self._services.find(definition, (*path, "ports", position), text, scope)
            if service is not None:
                ranges.extend(_service_ports(service))
        return tuple(ranges)

    def _offered(
        self, definition: _Definition, path: Path, reference: str, ports: tuple[PortRange, ...] | None
    ) -> Clause | None:
        """Resolve the VMs of a Service, on its own ports where there are no others."""
        service = self._services.find(definition, path, reference, definition.resource.metadata.scope)
        if service is None:
            return None
        if service.spec.selector is None:
            message = f"the service {path_of(service)} has no selector, so it stands for no VMs"
            self._complaints.about(definition, path, message)
            return None
        offering = group(service.metadata.scope, service.spec.selector)
        return Clause(peer=offering, ports=_service_ports(service) if ports is None else ports)

    def _peer(self, definition: _Definition, path: Path, spec: PeerSpec) -> Peer | None:
        own = definition.resource.metadata.scope
        if spec.cidr is not None:
            return InCidr(prefix=spec.cidr)
        if spec.network is not None:
            network = self._networks.find(definition, (*path, "network"), spec.network, own)
            return OnNetwork(path=network.path) if network else None
        if spec.scope is not None:
            self._scopes.check(definition, (*path, "scope"), spec.scope)
        return group(own if spec.scope is None else spec.scope, spec.selector)


def group(scope: Scope, selector: Selector | None) -> Group:
    """Return the VMs of a scope that a selector picks."""
    return Group(scope=scope, expressions=selector.expressions() if selector else frozenset())


def _service_ports(service: resources.Service) -> tuple[PortRange, ...]:
    return tuple(ports for text in service.spec.ports if (ports := parse_ports(text)))
