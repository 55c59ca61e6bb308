"""Hosts, networks and VMs: every address in its place, nothing held twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from serai.model import resources
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import Host, Network, VirtualMachine, Vnic, vnic_id
from serai.model.references import Scopes, Table
from serai.model.resources import VnicSpec, label, path_of
from serai.model.tenancy import ROOT

PROVIDER_DOMAIN = "provider"
"""The routing domain of the provider's own networks, unless they name another."""

_POINT_TO_POINT = 31
"""Prefixes this long or longer have no network or broadcast address (RFC 3021)."""


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
    places.sort(key=lambda place: place[:4])
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
            for position, address in enumerate(vnic.addresses):
                spot = (*path, "addresses", position)
                _check_address(definition, spot, address, network, complaints)
                claim = ("address", network.routing_domain, address)
                what = f"{address} of the routing domain {network.routing_domain!r}"
                claims.take(claim, definition, spot, what)
            vnics.append(_vnic(definition.resource, vnic, network))
        vms[path_of(definition.resource)] = VirtualMachine(
            name=metadata.name,
            scope=metadata.scope,
            labels=MappingProxyType(dict(spec.labels)),
            mode=scopes.mode(spec.mode, metadata.scope),
            vnics=tuple(vnics),
            host=spec.host,
            domain=domain,
        )
    return vms


def _vnic(vm: resources.VirtualMachine, vnic: VnicSpec, network: Network) -> Vnic:
    return Vnic(
        id=vnic_id(vm.metadata.scope, vm.metadata.name, vnic.name),
        name=vnic.name,
        network=network,
        mac=vnic.mac,
        addresses=vnic.addresses,
    )


def _check_address(
    definition: Definition[resources.VirtualMachine],
    path: Path,
    address: IPv4Address,
    network: Network,
    complaints: Complaints,
) -> None:
    """Complain about an address that no station of the network can have."""
    subnet = next((subnet for subnet in network.subnets if address in subnet), None)
    if subnet is None:
        known = ", ".join(map(str, network.subnets))
        complaints.about(definition, path, f"{address} lies outside the network {network.path} ({known})")
    elif _is_reserved(address, subnet):
        end = "network" if address == subnet.network_address else "broadcast"
        complaints.about(definition, path, f"{address} is the {end} address of {subnet}")


def _is_reserved(address: IPv4Address, subnet: IPv4Network) -> bool:
    ends = (subnet.network_address, subnet.broadcast_address)
    return subnet.prefixlen < _POINT_TO_POINT and address in ends
