"""Networks and VMs: every address in its place."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from serai.model import resources
from serai.model.address import LINK_LOCAL, Address, Prefix, in_order
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Host, Network, VirtualMachine, Vnic, vnic_id
from serai.model.references import Scopes, Table
from serai.model.resolve_security import port_security
from serai.model.resolve_site import PROVIDER_DOMAIN
from serai.model.resources import Resource, VnicSpec, label
from serai.model.tenancy import ROOT

_POINT_TO_POINT = {4: 31, 6: 127}
"""Prefixes this long or longer keep no address for themselves (RFC 3021, RFC 6164), by version."""


def resolve_network(definition: Definition[resources.Network], scopes: Scopes) -> Network:
    """Return a network; whole where there is nothing to complain about."""
    metadata, spec = definition.resource.metadata, definition.resource.spec
    scopes.check(definition, ("metadata", "scope"), metadata.scope)
    return Network(
        name=metadata.name,
        scope=metadata.scope,
        routing_domain=spec.routing_domain or metadata.scope.tenant or PROVIDER_DOMAIN,
        subnets=spec.subnets,
        bridge=spec.bridge,
        vni=spec.vni,
    )


def check_overlaps(networks: Sequence[tuple[Definition[Resource], Network]], complaints: Complaints) -> None:
    """Complain about subnets of one routing domain that share addresses: of two networks, about the later one in the order given."""
    places = [
        (network.routing_domain, subnet, order, number, definition)
        for order, (definition, network) in enumerate(networks)
        for number, subnet in enumerate(network.subnets)
    ]
    places.sort(key=lambda place: (place[0], place[1].version, in_order(place[1]), *place[2:4]))
    # Sorted by first address, a subnet overlaps an earlier one exactly if it overlaps the one that ends last.
    widest = None
    for place in places:
        domain, subnet, *_ = place
        if widest is None or domain != widest[0] or not subnet.overlaps(widest[1]):
            widest = place
            continue
        earlier, later = sorted((widest, place), key=lambda p: p[2:4])
        other = label(earlier[4].resource)
        message = f"{later[1]} overlaps {earlier[1]} of {other} in the routing domain {domain!r}"
        complaints.about(later[4], ("spec", "subnets", later[3]), message)


def resolve_vm(
    definition: Definition[resources.VirtualMachine],
    scopes: Scopes,
    networks: Table[Network],
    hosts: Table[Host],
    complaints: Complaints,
) -> tuple[VirtualMachine, Sequence[Vnic | None]]:
    """Return a VM, whole where there is nothing to complain about; and each of its vNICs, None where its network is not known."""
    metadata, spec = definition.resource.metadata, definition.resource.spec
    if metadata.scope == ROOT:
        message = "a VM belongs to a tenant: write /TENANT or /TENANT/APPLICATION"
        complaints.about(definition, ("metadata", "scope"), message)
    scopes.check(definition, ("metadata", "scope"), metadata.scope)
    if spec.host is not None:
        hosts.find(definition, ("spec", "host"), spec.host, ROOT)
    vnics: list[Vnic | None] = []
    for number, vnic in enumerate(spec.vnics):
        path: Path = ("spec", "vnics", number)
        if any(other.name == vnic.name for other in spec.vnics[:number]):
            complaints.about(definition, (*path, "name"), f"there are two vNICs {vnic.name!r}")
        network = networks.find(definition, (*path, "network"), vnic.network, metadata.scope)
        if network is None:
            vnics.append(None)
            continue
        vnics.append(_vnic(definition.resource, vnic, network))
        for position, address in enumerate(vnic.addresses):
            _check_address(definition, (*path, "addresses", position), address, network, complaints)
    resolved = VirtualMachine(
        name=metadata.name,
        scope=metadata.scope,
        labels=MappingProxyType(dict(spec.labels)),
        mode=scopes.mode(spec.mode, metadata.scope),
        vnics=tuple(vnic for vnic in vnics if vnic),
        host=spec.host,
        domain=spec.domain or metadata.name,
    )
    return resolved, vnics


def _vnic(vm: resources.VirtualMachine, vnic: VnicSpec, network: Network) -> Vnic:
    return Vnic(
        id=vnic_id(vm.metadata.scope, vm.metadata.name, vnic.name),
        name=vnic.name,
        network=network,
        mac=vnic.mac,
        addresses=vnic.addresses,
        security=port_security(vnic),
    )


def _check_address(
    definition: Definition[resources.VirtualMachine],
    path: Path,
    address: Address,
    network: Network,
    complaints: Complaints,
) -> None:
    """Complain about an address that no station of the network can have."""
    if address in LINK_LOCAL:
        if address == LINK_LOCAL.network_address:
            complaints.about(definition, path, f"{address} is the subnet-router anycast address of every link")
        return
    subnet = next((subnet for subnet in network.subnets if address in subnet), None)
    if subnet is None:
        known = ", ".join(map(str, network.subnets))
        complaints.about(definition, path, f"{address} lies outside the network {network.path} ({known})")
    elif kind := _reserved(address, subnet):
        complaints.about(definition, path, f"{address} is the {kind} address of {subnet}")


def _reserved(address: Address, subnet: Prefix) -> str | None:
    """Say what an address of a subnet is kept for (RFC 4291, 2.6.1); None where a station may have it."""
    if subnet.prefixlen >= _POINT_TO_POINT[subnet.version]:
        return None
    if address == subnet.network_address:
        return "network" if subnet.version == 4 else "subnet-router anycast"  # noqa: PLR2004 (a version of IP)
    # IPv6 has no broadcast.
    return "broadcast" if address == subnet.broadcast_address and subnet.version == 4 else None  # noqa: PLR2004
