"""What vNICs may do beside using their own addresses, and that nobody gets to speak for a neighbour by it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Self

from serai.model import resources
from serai.model.address import BITS, Address, Prefix, in_order, is_several, unpack
from serai.model.buckets import Index
from serai.model.definitions import Complaints, Definition, Path
from serai.model.holders import Claim, Holders
from serai.model.inventory import AllowedAddress, PortSecurity, VirtualMachine
from serai.model.key import Key
from serai.model.resources import Resource, VnicSpec, path_of

_Mark = tuple[str, str, int, Hashable]
"""``prefix``, its routing domain, how many bits it fixes, and which; or ``mac`` and which one."""


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


class Allowances:
    """Which VMs have leave to use which addresses beside their own: whoever comes to hold one of these must be looked at with them."""

    __slots__ = ("_by", "_lengths")

    def __init__(self, by: Index[_Mark, Key] | None = None, lengths: frozenset[int] = frozenset()) -> None:
        """Begin with none."""
        self._by = Index[_Mark, Key]() if by is None else by
        self._lengths = lengths
        """Of the prefixes, as far as there have ever been any."""

    def covering(self, claim: Claim) -> frozenset[Key]:
        """Return the VMs that have leave to use what ``claim`` is about."""
        kind, domain, which = claim
        if kind == "mac":
            return self._by.get((kind, "", 0, which))
        if kind != "address" or not isinstance(which, bytes):
            return frozenset()
        number = int.from_bytes(which)
        found = (self._by.get(("prefix", domain, length, number >> BITS - length)) for length in self._lengths)
        return frozenset().union(*found)

    def changed(self, gone: Iterable[tuple[Key, VirtualMachine]], come: Iterable[tuple[Key, VirtualMachine]]) -> Self:
        """Return them without those of some VMs, and then with those of others."""
        less = [(mark, key) for key, vm in gone for mark in _marks(vm)]
        more = [(mark, key) for key, vm in come for mark in _marks(vm)]
        if not less and not more:
            return self
        lengths = {length for (kind, _, length, _), _ in more if kind == "prefix"}
        return type(self)(self._by.changed(less, more), self._lengths | lengths)


def _marks(vm: VirtualMachine) -> Iterator[_Mark]:
    for vnic in vm.vnics:
        for entry in vnic.security.allowed:
            raw, length = in_order(entry.prefix)
            yield "prefix", vnic.network.routing_domain, length, int.from_bytes(raw) >> BITS - length
            if entry.mac is not None:
                yield "mac", "", 0, entry.mac


def check_security(
    definition: Definition[Resource], vms: Mapping[str, VirtualMachine], holders: Holders, complaints: Complaints
) -> None:
    """Complain about allowed addresses that another VM holds, and allowed MAC addresses that are a vNIC's own."""
    resource = definition.resource
    if not isinstance(resource, resources.VirtualMachine):
        return
    vm = vms[path_of(resource)]
    domains = {vnic.name: vnic.network.routing_domain for vnic in vm.vnics}
    for number, spec in enumerate(resource.spec.vnics):
        for position, entry in enumerate(spec.allowed_addresses):
            path: Path = ("spec", "vnics", number, "allowedAddresses", position)
            owner = holders.get(("mac", "", entry.mac)) if entry.mac != spec.mac else None
            if owner:
                # A vNIC on an unknown network has a MAC address all the same.
                own = "".join(f"/{vnic.name}" for vnic in vms[owner.path].vnics if vnic.mac == entry.mac)
                message = f"{entry.mac} is the own MAC address of {owner.path}{own}: nobody else may send from it"
                complaints.about(definition, (*path, "mac"), message)
            # A vNIC on an unknown network has no routing domain to look into.
            held = _held(vm, domains[spec.name], entry.prefix, vms, holders) if spec.name in domains else None
            if held:
                address, holder = held
                inside = f"{entry.prefix} contains {address}" if is_several(entry.prefix) else str(address)
                message = f"{inside}, which {holder} holds: nobody else may send in its name"
                complaints.about(definition, (*path, "prefix"), message)


def _held(
    vm: VirtualMachine, domain: str, prefix: Prefix, vms: Mapping[str, VirtualMachine], holders: Holders
) -> tuple[Address, str] | None:
    """Return the first address of ``prefix`` that another VM than ``vm`` holds, and its vNIC."""
    for raw, key in holders.within(domain, prefix):
        address = unpack(raw)
        if key.path != vm.path and address in prefix:
            own = next(
                vnic.name
                for vnic in vms[key.path].vnics
                if vnic.network.routing_domain == domain and address in vnic.held
            )
            return address, f"{key.path}/{own}"
    return None
