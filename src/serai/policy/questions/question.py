"""Questions about one connection, as people type them: who, to whom, on which port."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from serai.model import address
from serai.model.address import LINK_LOCAL, Address
from serai.model.definitions import did_you_mean
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.ports import ECHO_REQUEST, ICMP, ICMPV6, WITH_PORTS, format_ports, parse_ports
from serai.model.world import World
from serai.policy.evaluate import Connection

_VERSION_OF = {ICMP: 4, ICMPV6: 6}
"""Protocols that only one version of IP carries."""
_KINDS = ((4, False), (6, False), (6, True))
"""Version, and whether it is link-local: from addresses of one kind to those of another there is no way."""
_INFRASTRUCTURE = frozenset({*range(130, 138), 143})
"""ICMPv6 types of neighbor and multicast listener discovery."""


class QuestionError(ValueError):
    """The question cannot be answered as it is asked; the text says how to ask it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of the connection in question: a VM by one or more of its vNICs, or an address."""

    vm: VirtualMachine | None = None
    vnics: tuple[Vnic, ...] = ()
    address: Address | None = None

    def __str__(self) -> str:
        return self.vm.path if self.vm else str(self.address)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that may be meant."""
        return (self.address,) if self.address else tuple(a for vnic in self.vnics for a in vnic.addresses)


def parse_end(world: World, text: str) -> End:
    """Read a VM path, a unique VM name, ``vm/vnic`` or an address.

    Raises:
        QuestionError: it is none of these, or may mean several VMs.
    """
    try:
        return End(address=address.parse(text))
    except address.DisguiseError as error:
        raise QuestionError(str(error)) from None
    except ValueError:
        pass
    scope, colon, rest = text.rpartition(":")
    name, slash, vnic_name = rest.partition("/")
    if text.startswith("/") and not colon:
        message = f"{text!r} is no VM: write its scope, a colon and its name, such as /acme/shop:web"
        raise QuestionError(message)
    vms = [vm for vm in world.vms.values() if vm.name == name and (not colon or vm.scope == scope)]
    if not vms:
        known = [vm.path if colon else vm.name for vm in world.vms.values()]
        hint = did_you_mean(f"{scope}:{name}" if colon else name, known)
        message = f"there is no VM {text!r}{hint}"
        raise QuestionError(message)
    if len(vms) > 1:
        message = f"{text!r} may mean {' or '.join(sorted(vm.path for vm in vms))}: write the full path"
        raise QuestionError(message)
    vnics = tuple(vnic for vnic in vms[0].vnics if not slash or vnic.name == vnic_name)
    if not vnics:
        others = ", ".join(vnic.name for vnic in vms[0].vnics)
        message = f"{vms[0].path} has no vNIC {vnic_name!r}; it has {others}"
        raise QuestionError(message)
    return End(vm=vms[0], vnics=vnics)


def parse_service(text: str) -> tuple[int, int]:
    """Read one protocol and port, e.g. ``tcp/443``; ``icmp`` or ``icmpv6`` alone means an echo request.

    Returns:
        The protocol's number and the port (for ICMP and ICMPv6 ``type * 256 + code``).

    Raises:
        QuestionError: it is no port, or more than one.
    """
    try:
        ports = parse_ports(text)
    except ValueError as error:
        message = str(error).replace(", any, or the name of a Service", "")
        raise QuestionError(message) from None
    if ports is None or ports.protocol == ANY_PROTOCOL:
        message = f"{text!r} is not one port: write tcp/443, udp/53, sctp/3868, icmp, icmpv6 or a protocol number"
        raise QuestionError(message)
    everything = ports == PortRange(protocol=ports.protocol)
    if ports.protocol in ECHO_REQUEST:
        return ports.protocol, ECHO_REQUEST[ports.protocol] if everything else ports.first
    if ports.first != ports.last and ports.protocol in WITH_PORTS:
        name = format_ports(PortRange(protocol=ports.protocol))
        message = f"{text!r} is more than one port: ask about one, such as {name}/443"
        raise QuestionError(message)
    return ports.protocol, ports.first


def require_opening(service: tuple[int, int], text: str) -> None:
    """Refuse a question about a packet that opens nothing, whatever policies say.

    Raises:
        QuestionError: it is an ICMP or ICMPv6 message other than an echo request.
    """
    protocol, port = service
    if port == ECHO_REQUEST.get(protocol, port):
        return
    if protocol == ICMPV6 and port // 256 in _INFRASTRUCTURE:
        message = f"{text!r} opens no connection: gates guard how neighbors find each other, and ask no policy about it"
    else:
        message = (
            f"{text!r} opens no connection: gates carry echo requests (icmp, icmpv6), and errors along with the "
            "connection that they are about"
        )
    raise QuestionError(message)


def connections(source: End, destination: End, protocol: int, port: int) -> tuple[Connection, ...]:
    """Put the question together: for each version of IP that both ends have, IPv4 first, by their first addresses.

    There are none where no packet can go from one end to the other; ``apart`` says why.

    Raises:
        QuestionError: it takes a vNIC's name, or a VM, to tell which addresses are meant, or the protocol belongs to
            a version that they do not have.
    """
    if source.vm is None and destination.vm is None:
        message = "two addresses do not tell a routing domain: name a VM for one of them"
        raise QuestionError(message)
    pairs = _pairs(source, destination)
    if not pairs:
        return ()
    if len(pairs) > 1:
        several = source if len(source.vnics) > 1 else destination
        names = " or ".join(f"{several}/{vnic.name}" for vnic in several.vnics)
        message = f"{several} has several vNICs that may be meant: write {names}"
        raise QuestionError(message)
    [(domain, *held)] = pairs
    by_version: dict[int, Connection] = {}
    for version, link_local in _KINDS:
        left, right = (_first(addresses, version, link_local=link_local) for addresses in held)
        if left and right and version not in by_version:
            by_version[version] = Connection(
                routing_domain=domain, source=left, destination=right, protocol=protocol, port=port
            )
    only = _VERSION_OF.get(protocol)
    if only and by_version and only not in by_version:
        instead = "icmpv6" if protocol == ICMP else "icmp"
        message = f"{source} and {destination} have no IPv{only} address each, which this protocol needs: ask {instead}"
        raise QuestionError(message)
    return tuple(by_version[v] for v in sorted(by_version) if only in (None, v))


def apart(source: End, destination: End) -> str:
    """Say why no packet can go from one end to the other."""
    if _pairs(source, destination):
        left, right = (" and ".join(map(str, end.addresses)) for end in (source, destination))
        return f"they have no kind of address in common: one has {left}, the other {right}"
    left, right = (
        " and ".join(sorted({vnic.network.routing_domain for vnic in end.vnics})) for end in (source, destination)
    )
    return f"no routing domain holds both: one is in {left}, the other in {right}"


def _pairs(source: End, destination: End) -> list[tuple[str, tuple[Address, ...], tuple[Address, ...]]]:
    """List the routing domains that hold both ends, with the addresses that each end may have there."""
    return [
        (domain, left, right)
        for domain, left in _places(source, destination)
        for other, right in _places(destination, source)
        if domain == other
    ]


def _places(end: End, other: End) -> list[tuple[str, tuple[Address, ...]]]:
    """List the routing domains and addresses that an end may have, given the other one."""
    if end.address is not None:
        domains = sorted({vnic.network.routing_domain for vnic in _facing(other, end)})
        return [(domain, (end.address,)) for domain in domains]
    return [(vnic.network.routing_domain, vnic.held) for vnic in _facing(end, other)]


def _facing(end: End, other: End) -> list[Vnic]:
    """Pick the vNICs of ``end`` that share a network with ``other``, or all where none does."""
    if other.address is None:
        networks = {vnic.network.path for vnic in other.vnics}
        near = [vnic for vnic in end.vnics if vnic.network.path in networks]
    else:
        near = [vnic for vnic in end.vnics if any(other.address in net for net in vnic.network.subnets)]
    return near or list(end.vnics)


def _first(addresses: Iterable[Address], version: int, *, link_local: bool) -> Address | None:
    return next((a for a in addresses if a.version == version and (a in LINK_LOCAL) == link_local), None)
