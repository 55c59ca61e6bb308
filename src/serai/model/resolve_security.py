"""What vNICs may do beside using their own addresses, and that nobody gets to speak for a neighbour by it."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Iterable, Mapping, Sequence

from serai.model import resources
from serai.model.address import Address, Prefix, is_several, pack, unpack
from serai.model.definitions import Complaints, Definition, Path
from serai.model.inventory import AllowedAddress, PortSecurity, VirtualMachine
from serai.model.resources import VnicSpec, path_of


def port_security(spec: VnicSpec) -> PortSecurity:
    """Bring what the resource says into the one form in which it is compared and compiled."""
    allowed = {
        AllowedAddress(prefix=entry.prefix, mac=None if entry.mac == spec.mac else entry.mac)
        for entry in spec.allowed_addresses
    }
    return PortSecurity(
        allowed=tuple(sorted(allowed, key=lambda entry: entry.in_order)),
        serves=frozenset(spec.serves),
        tunnels=spec.tunnels,
        ethertypes=tuple(sorted(set(spec.ethertypes))),
        max_flows=spec.max_flows,
        new_flows_per_second=spec.new_flows_per_second,
    )


def check_security(
    definitions: Sequence[Definition[resources.VirtualMachine]],
    vms: Mapping[str, VirtualMachine],
    complaints: Complaints,
) -> None:
    """Complain about allowed addresses that another VM holds, and allowed MAC addresses that are a vNIC's own."""
    holders = _Holders(vms.values())
    macs = {vnic.mac: f"{vm.path}/{vnic.name}" for vm in vms.values() for vnic in vm.vnics}
    for definition in definitions:
        vm = vms[path_of(definition.resource)]
        domains = {vnic.name: vnic.network.routing_domain for vnic in vm.vnics}
        for number, spec in enumerate(definition.resource.spec.vnics):
            for position, entry in enumerate(spec.allowed_addresses):
                path: Path = ("spec", "vnics", number, "allowedAddresses", position)
                if entry.mac in macs and entry.mac != spec.mac:
                    message = f"{entry.mac} is the own MAC address of {macs[entry.mac]}: nobody else may send from it"
                    complaints.about(definition, (*path, "mac"), message)
                # A vNIC on an unknown network has no routing domain to look into.
                held = holders.another(vm, domains[spec.name], entry.prefix) if spec.name in domains else None
                if held:
                    address, holder = held
                    inside = f"{entry.prefix} contains {address}" if is_several(entry.prefix) else str(address)
                    message = f"{inside}, which {holder} holds: nobody else may send in its name"
                    complaints.about(definition, (*path, "prefix"), message)


class _Holders:
    """Who holds which address, to be searched by prefix."""

    def __init__(self, vms: Iterable[VirtualMachine]) -> None:
        self._found = sorted(
            ((vnic.network.routing_domain, pack(address)), f"{vm.path}/{vnic.name}", vm.path)
            for vm in vms
            for vnic in vm.vnics
            for address in vnic.held
        )

    def another(self, vm: VirtualMachine, domain: str, prefix: Prefix) -> tuple[Address, str] | None:
        """Return the first address of ``prefix`` that another VM than ``vm`` holds, and its vNIC."""
        first, last = ((domain, pack(end)) for end in (prefix.network_address, prefix.broadcast_address))
        begin = bisect.bisect_left(self._found, first, key=operator.itemgetter(0))
        end = bisect.bisect_right(self._found, last, key=operator.itemgetter(0))
        for (_, raw), vnic, path in self._found[begin:end]:
            address = unpack(raw)
            if path != vm.path and address in prefix:
                return address, vnic
        return None
