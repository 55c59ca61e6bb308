"""Hosts, networks and VMs: every address in its place, nothing held twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType

from serai.model import resources
from serai.model.address import LINK_LOCAL, Address, Prefix, in_order
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Host, Network, VirtualMachine, Vnic, vnic_id
from serai.model.references import Scopes, Table
from serai.model.resolve_security import check_security, port_security
from serai.model.resources import VnicSpec, label, path_of
from serai.model.tenancy import ROOT

PROVIDER_DOMAIN = "provider"
"""The routing domain of the provider's own networks, unless they name another."""

_POINT_TO_POINT = {4: 31, 6: 127}
"""Prefixes this long or longer keep no address for themselves (RFC 3021, RFC 6164), by version."""


class _Claims:
    """Who has taken what there can be only one of."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._holders: dict[Hashable, Definition[resources.Resource]] = {}

    def take(self, claim: Hashable, definition: Definition[resources.Resource], path: Path, what: str) -> None:
        """Complain where the claim has been taken before."""
        holder = self._holders.get(claim)
        if holder is None:
            self._holders[claim] = definition
            return
        taken = f"{what} is taken already, by {label(holder.resource)} at {holder.place}"
        self._complaints.about(definition, path, taken)


def resolve_hosts(definitions: Sequence[Definition[resources.Host]]) -> dict[str, Host]:
    """Return the hosts by name."""
    hosts = [(d.resource.metadata.name, d.resource.spec.address) for d in definitions]
    return {name: Host(name=name, address=address) for name, address in hosts}


def resolve_networks(
    definitions: Sequence[Definition[resources.Network]], scopes: Scopes, complaints: Complaints
) -> dict[str, Network]:
    """Return the networks by path."""
    networks: dict[str, Network] = {}
    claims = _Claims(complaints)
    for definition in definitions:
        metadata, spec = definition.resource.metadata, definition.resource.spec
        scopes.check(definition, ("metadata", "scope"), metadata.scope)
        # One bridge or one VXLAN under two networks would join what their routing domains keep apart.
        if spec.bridge is not None:
            claims.take(("bridge", spec.bridge), definition, ("spec", "bridge"), f"bridge {spec.bridge}")
        if spec.vni is not None:
            claims.take(("vni", spec.vni), definition, ("spec", "vni"), f"VNI {spec.vni}")
        networks[path_of(definition.resource)] = Network(
            name=metadata.name,
            scope=metadata.scope,
            routing_domain=spec.routing_domain or metadata.scope.tenant or PROVIDER_DOMAIN,
            subnets=spec.subnets,
            bridge=spec.bridge,
            vni=spec.vni,
        )
    _check_overlaps(definitions, networks, complaints)
    return networks


def _check_overlaps(
    definitions: Sequence[Definition[resources.Network]],
    networks: Mapping[str, Network],
    complaints: Complaints,
) -> None:
    """Complain about subnets of one routing domain that share addresses."""
    places = [
        (networks[path_of(definition.resource)].routing_domain, subnet, order, number, definition)
        for order, definition in enumerate(definitions)
        for number, subnet in enumerate(definition.resource.spec.subnets)
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


def resolve_vms(
    definitions: Sequence[Definition[resources.VirtualMachine]],
    scopes: Scopes,
    networks: Mapping[str, Network],
    hosts: Mapping[str, Host],
    complaints: Complaints,
) -> dict[str, VirtualMachine]:
    """Return the VMs by path."""
    vms: dict[str, VirtualMachine] = {}
    claims = _Claims(complaints)
    network_table = Table("Network", networks, complaints)
    host_table = Table("Host", {f"/:{name}": host for name, host in hosts.items()}, complaints)
    for definition in definitions:
        metadata, spec = definition.resource.metadata, definition.resource.spec
        if metadata.scope == ROOT:
            message = "a VM belongs to a tenant: write /TENANT or /TENANT/APPLICATION"
            complaints.about(definition, ("metadata", "scope"), message)
        scopes.check(definition, ("metadata", "scope"), metadata.scope)
        if spec.host is not None:
            host_table.find(definition, ("spec", "host"), spec.host, ROOT)
        domain = spec.domain or metadata.name
        if spec.host is not None:
            claims.take(
                ("domain", spec.host, domain),
                definition,
                ("spec", "domain") if spec.domain else ("metadata", "name"),
                f"domain {domain} of host {spec.host}",
            )
        vnics: list[Vnic] = []
        for number, vnic in enumerate(spec.vnics):
            path: Path = ("spec", "vnics", number)
            if any(other.name == vnic.name for other in spec.vnics[:number]):
                complaints.about(definition, (*path, "name"), f"there are two vNICs {vnic.name!r}")
            claims.take(("mac", vnic.mac), definition, (*path, "mac"), f"MAC address {vnic.mac}")
            network = network_table.find(definition, (*path, "network"), vnic.network, metadata.scope)
            if network is None:
                continue
            vnics.append(_vnic(definition.resource, vnic, network))
            for position, address in enumerate(vnic.addresses):
                _check_address(definition, (*path, "addresses", position), address, network, complaints)
            _claim_addresses(claims, definition, path, vnics[-1])
        vms[path_of(definition.resource)] = VirtualMachine(
            name=metadata.name,
            scope=metadata.scope,
            labels=MappingProxyType(dict(spec.labels)),
            mode=scopes.mode(spec.mode, metadata.scope),
            vnics=tuple(vnics),
            host=spec.host,
            domain=domain,
        )
    check_security(definitions, vms, complaints)
    return vms


def _vnic(vm: resources.VirtualMachine, vnic: VnicSpec, network: Network) -> Vnic:
    return Vnic(
        id=vnic_id(vm.metadata.scope, vm.metadata.name, vnic.name),
        name=vnic.name,
        network=network,
        mac=vnic.mac,
        addresses=vnic.addresses,
        security=port_security(vnic),
    )


def _claim_addresses(claims: _Claims, definition: Definition[resources.VirtualMachine], path: Path, vnic: Vnic) -> None:
    domain = vnic.network.routing_domain
    for position, address in enumerate(vnic.held):
        implied = position >= len(vnic.addresses)
        spot = (*path, "mac") if implied else (*path, "addresses", position)
        made = " (the link-local address that this MAC makes)" if implied else ""
        claims.take(("address", domain, address), definition, spot, f"{address}{made} of the routing domain {domain!r}")


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
