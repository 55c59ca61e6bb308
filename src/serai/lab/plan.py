"""What a lab consists of: hosts, networks and guests. Pure values, checked when they are made."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, ip_network

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_INTERFACE_NAME_MAX = 15
_VNI_MAX = 2**24 - 1
MEMORY_MIB = 96
"""What a guest has whose definition does not say."""


class LabPlanError(ValueError):
    """A plan that cannot be built; the message names the part and the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabHost:
    """One hypervisor host."""

    name: str
    """Host name, used for its namespace, its certificate and in migration URIs."""
    underlay: IPv4Address
    """Its address on the network between the hosts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabNetwork:
    """One virtual layer-2 segment, present on every host."""

    name: str
    bridge: str
    """Name of its bridge on each host (at most 15 characters)."""
    vni: int
    """VXLAN network identifier, 1..16777215."""
    subnet: IPv4Network
    outside: IPv4Address
    """Address, inside the subnet, of the namespace that stands for users outside the data center."""
    outside6: IPv6Interface | None = None
    """Their IPv6 address, where the network has a subnet of that version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabGuest:
    """One virtual machine with one network card."""

    domain: str
    """libvirt domain name and the guest's host name, which its services answer with."""
    mac: str
    """Lower-case MAC address with colons."""
    address: IPv4Interface
    network: str
    bridge: str
    host: str
    """Name of the host it starts on."""
    memory_mib: int = MEMORY_MIB
    address6: IPv6Interface | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabPlan:
    """A whole lab. Raises LabPlanError when its parts do not fit together."""

    hosts: tuple[LabHost, ...]
    networks: tuple[LabNetwork, ...]
    guests: tuple[LabGuest, ...]
    prefix: str = "serai-"
    """Start of every namespace name, so that two labs can live side by side."""

    def __post_init__(self) -> None:
        """Check names, uniqueness and references."""
        if not self.hosts:
            raise LabPlanError("a lab needs at least one host")
        self._check_names()
        self._check_networks()
        for guest in self.guests:
            self._check_guest(guest)
        underlays = [host.underlay for host in self.hosts]
        underlays += [self.outside_underlay(network.name) for network in self.networks]
        underlays.append(self.controller_underlay)
        _unique("underlay address", underlays)

    def host(self, name: str) -> LabHost:
        """Return the host called name; LabPlanError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabPlanError(f"no host is called {name!r}; the lab has {_names(self.hosts)}")

    def network(self, name: str) -> LabNetwork:
        """Return the network called name; LabPlanError when there is none."""
        for network in self.networks:
            if network.name == name:
                return network
        raise LabPlanError(f"no network is called {name!r}; the lab has {_names(self.networks)}")

    def guest(self, domain: str) -> LabGuest:
        """Return the guest called domain; LabPlanError when there is none."""
        for guest in self.guests:
            if guest.domain == domain:
                return guest
        known = ", ".join(guest.domain for guest in self.guests)
        raise LabPlanError(f"no guest is called {domain!r}; the lab has {known}")

    @property
    def underlay_namespace(self) -> str:
        """Name of the network namespace that holds the switch between the hosts."""
        return f"{self.prefix}underlay"

    @property
    def controller_namespace(self) -> str:
        """Name of the network namespace of the machine that the controller runs on."""
        return f"{self.prefix}controller"

    def host_namespace(self, name: str) -> str:
        """Name of the network namespace of the host called name."""
        return f"{self.prefix}{self.host(name).name}"

    def outside_namespace(self, network: str) -> str:
        """Name of the network namespace of the users outside, on the network called so."""
        return f"{self.prefix}out-{self.network(network).name}"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every network namespace of this lab."""
        return (
            self.underlay_namespace,
            self.controller_namespace,
            *(self.host_namespace(host.name) for host in self.hosts),
            *(self.outside_namespace(network.name) for network in self.networks),
        )

    @property
    def underlay_subnet(self) -> IPv4Network:
        """The /24 around the first host's underlay address: all hosts must be in it."""
        return IPv4Network(ip_network(f"{self.hosts[0].underlay}/24", strict=False))

    @property
    def controller_underlay(self) -> IPv4Address:
        """Underlay address of the controller: .254."""
        return self.underlay_subnet.broadcast_address - 1

    def outside_underlay(self, network: str) -> IPv4Address:
        """Underlay address of a network's outside namespace: counted down from .253."""
        position = [item.name for item in self.networks].index(network)
        return self.controller_underlay - 1 - position

    def _check_names(self) -> None:
        for kind, names in (
            ("host", [host.name for host in self.hosts]),
            ("network", [network.name for network in self.networks]),
            ("guest", [guest.domain for guest in self.guests]),
        ):
            for name in names:
                if not _NAME.fullmatch(name):
                    raise LabPlanError(f"{kind} {name!r}: a name has 1 to 32 of a-z, 0-9 and inner '-'")
            _unique(f"{kind} name", names)
        # A host "out-acme" beside a network "acme", or a host "underlay", would share a namespace.
        _unique("namespace name", list(self.namespaces))
        for host in self.hosts:
            if host.underlay not in self.underlay_subnet:
                raise LabPlanError(f"host {host.name}: underlay {host.underlay} is outside {self.underlay_subnet}")

    def _check_networks(self) -> None:
        _unique("VNI", [network.vni for network in self.networks])
        _unique("bridge", [network.bridge for network in self.networks])
        for network in self.networks:
            if not 1 <= network.vni <= _VNI_MAX:
                raise LabPlanError(f"network {network.name}: VNI {network.vni} is not in 1..{_VNI_MAX}")
            if not 1 <= len(network.bridge) <= _INTERFACE_NAME_MAX:
                raise LabPlanError(f"network {network.name}: bridge {network.bridge!r} has not 1 to 15 characters")
            if network.outside not in network.subnet:
                raise LabPlanError(f"network {network.name}: outside {network.outside} is not in {network.subnet}")

    def _check_guest(self, guest: LabGuest) -> None:
        network = self.network(guest.network)
        self.host(guest.host)
        if guest.bridge != network.bridge:
            raise LabPlanError(f"guest {guest.domain}: bridge {guest.bridge} is not {network.bridge}, its network's")
        if not _MAC.fullmatch(guest.mac):
            raise LabPlanError(f"guest {guest.domain}: {guest.mac!r} is not a lower-case MAC address with colons")
        if guest.address.network != network.subnet:
            raise LabPlanError(f"guest {guest.domain}: {guest.address} is not in {network.subnet}")
        same = [other for other in self.guests if other.network == guest.network]
        _unique(f"address in network {guest.network}", [other.address.ip for other in same] + [network.outside])
        _unique(f"MAC address in network {guest.network}", [other.mac for other in same])


def _names(items: tuple[LabHost, ...] | tuple[LabNetwork, ...]) -> str:
    return ", ".join(item.name for item in items)


def _unique(what: str, values: list[str] | list[int] | list[IPv4Address]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise LabPlanError(f"{what} {value} is used twice")
        seen.add(value)
