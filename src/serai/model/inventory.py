"""What there is to protect: networks, hosts, virtual machines and their vNICs."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import NewType, Self

from serai.model.address import Address, Prefix, in_order, link_local
from serai.model.tenancy import Mode, Scope, content_id

VnicId = NewType("VnicId", int)
"""The 64-bit content-derived number of a vNIC: the same on every host, for as long as it lives."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Mac(str):
    """A unicast Ethernet address, kept in lower case with colons."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check and take an address.

        Raises:
            ValueError: not six hexadecimal bytes, all zero, or a group address (IEEE 802: bit 0 of byte 0).
        """
        lower = text.lower()
        if not _MAC.fullmatch(lower):
            message = f"{text!r} is not a MAC address: write six bytes such as 52:54:00:12:34:56"
            raise ValueError(message)
        if int(lower[1], 16) & 1 or lower == "00:00:00:00:00:00":
            message = f"{text!r} cannot be a vNIC's address: it is a group address or zero"
            raise ValueError(message)
        return super().__new__(cls, lower)

    @property
    def packed(self) -> bytes:
        """The six bytes as they stand in a frame."""
        return bytes.fromhex(self.replace(":", ""))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A virtual layer-2 segment."""

    name: str
    scope: Scope
    routing_domain: str
    """Addresses are unique inside one routing domain; two domains may both use 10.0.0.0/8."""
    subnets: tuple[Prefix, ...]
    bridge: str | None = None
    """The Linux bridge that carries it on every host, where the inventory knows it."""
    vni: int | None = None
    """The VXLAN network identifier (RFC 7348) that joins the hosts, where there is one."""

    @property
    def path(self) -> str:
        """Scope and name, e.g. ``/acme:front``."""
        return f"{self.scope}:{self.name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A hypervisor."""

    name: str
    address: Address | None = None
    """Where the other hosts reach it."""


class Serves(enum.StrEnum):
    """What a vNIC may offer to its network that others may not."""

    DHCP = "dhcp"
    """Answers of a DHCP or DHCPv6 server."""
    ROUTER = "router"
    """IPv6 router advertisements and redirects."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AllowedAddress:
    """Addresses that a vNIC may use beside its own: a VRRP address, the prefix behind a router."""

    prefix: Prefix
    mac: Mac | None = None
    """With this MAC and no other (VRRP, RFC 5798); None: with the vNIC's own."""

    @property
    def in_order(self) -> tuple[bytes, int, str]:
        """By what they are sorted."""
        return (*in_order(self.prefix), self.mac or "")


ETHERTYPES = 4
"""How many more ethertypes one vNIC may use."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PortSecurity:
    """What a vNIC may do beyond speaking IP with its own addresses."""

    allowed: tuple[AllowedAddress, ...] = ()
    """In order; who is behind them is nobody's business: to policies they are addresses, not this VM."""
    serves: frozenset[Serves] = frozenset()
    tunnels: bool = False
    """May send VXLAN, Geneve, GRE and IP in IP, inside which no gate looks."""
    ethertypes: tuple[int, ...] = ()
    """Carried without a look inside; at most ``ETHERTYPES``, in order."""
    max_flows: int | None = None
    """How many flows it may hold; None: as many as its host's agent says."""
    new_flows_per_second: int | None = None
    """How many flows it, and others to it, may open a second; None: as many as its host's agent says."""


ORDINARY = PortSecurity()
"""Nothing beyond."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Vnic:
    """One virtual network card: the place a gate guards."""

    id: VnicId
    name: str
    """Its name inside the VM's definition, e.g. ``eth0``."""
    network: Network
    mac: Mac
    addresses: tuple[Address, ...]
    security: PortSecurity = ORDINARY

    @property
    def held(self) -> tuple[Address, ...]:
        """Its addresses, and with any IPv6 address the link-local one that its MAC makes."""
        if all(isinstance(address, IPv4Address) for address in self.addresses):
            return self.addresses
        implied = link_local(self.mac.packed)
        return self.addresses if implied in self.addresses else (*self.addresses, implied)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VirtualMachine:
    """A virtual machine, its labels and its vNICs."""

    name: str
    scope: Scope
    labels: Mapping[str, str]
    mode: Mode
    """The mode in force: the VM's own, else the nearest scope's, else the site's."""
    vnics: tuple[Vnic, ...]
    host: str | None = None
    """The host it is expected on, where the inventory knows it."""
    domain: str | None = None
    """What the hypervisor calls it, where that differs from the name."""

    @property
    def path(self) -> str:
        """Scope and name, e.g. ``/acme/shop:web``."""
        return f"{self.scope}:{self.name}"


def vnic_id(scope: Scope, vm: str, vnic: str) -> VnicId:
    """Return the number of the vNIC called ``vnic`` of the VM ``vm`` in ``scope``."""
    return VnicId(content_id("vnic", scope, vm, vnic))
