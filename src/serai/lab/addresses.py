"""Of the addresses that a world gives, those that the lab uses: one of IPv4 always, and one of IPv6 where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from serai.lab.error import LabError
from serai.model.address import Address, Prefix
from serai.model.inventory import VirtualMachine


def first_address(addresses: Iterable[Address], whose: str) -> IPv4Address:
    """Return the first IPv4 address. LabError where there is none."""
    found = next((address for address in addresses if isinstance(address, IPv4Address)), None)
    if found is None:
        raise LabError(f"{whose} has no IPv4 address: the lab needs one")
    return found


def first_subnet(subnets: Iterable[Prefix], whose: str) -> IPv4Network:
    """Return the first IPv4 subnet. LabError where there is none."""
    found = next((subnet for subnet in subnets if isinstance(subnet, IPv4Network)), None)
    if found is None:
        raise LabError(f"{whose} has no IPv4 subnet: the lab needs one")
    return found


def address_of(vm: VirtualMachine) -> IPv4Address:
    """Return where the lab reaches a VM. LabError where its first vNIC has no IPv4 address."""
    return first_address(vm.vnics[0].addresses, f"VM {vm.path}")


def address6_of(vm: VirtualMachine) -> IPv6Address | None:
    """Return the first IPv6 address of a VM's first vNIC."""
    return next((address for address in vm.vnics[0].addresses if isinstance(address, IPv6Address)), None)


def subnet6(subnets: Iterable[Prefix]) -> IPv6Network | None:
    """Return the first IPv6 subnet."""
    return next((subnet for subnet in subnets if isinstance(subnet, IPv6Network)), None)
