"""Questions about one connection, as people type them: who, to whom, on which port."""

from __future__ import annotations

import dataclasses

from serai.model import address
from serai.model.address import Address
from serai.model.definitions import did_you_mean
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import ANY_PROTOCOL
from serai.model.ports import ICMP, TCP, UDP, parse_ports
from serai.model.world import World
from serai.policy.evaluate import Connection

_ECHO_REQUEST = 8 * 256


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


def parse_end(world: World, text: str) -> End:
    """Read a VM path, a unique VM name, ``vm/vnic`` or an IPv4 address.

    Raises:
        QuestionError: it is none of these, or may mean several VMs.
    """
    try:
        return End(address=address.parse(text))
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
    """Read one protocol and port, e.g. ``tcp/443``; ``icmp`` alone means an echo request.

    Returns:
        The protocol's number and the port (for ICMP ``type * 256 + code``).

    Raises:
        QuestionError: it is no port, or more than one.
    """
    try:
        ports = parse_ports(text)
    except ValueError as error:
        message = str(error).replace(", any, or the name of a Service", "")
        raise QuestionError(message) from None
    if ports is None or ports.protocol == ANY_PROTOCOL:
        message = f"{text!r} is not one port: write tcp/443, udp/53, icmp or a protocol number"
        raise QuestionError(message)
    if ports.protocol == ICMP:
        return ICMP, _ECHO_REQUEST if text in {"icmp", "1"} else ports.first
    if ports.first != ports.last and ports.protocol in {TCP, UDP}:
        message = f"{text!r} is more than one port: ask about one, such as {text.partition('/')[0]}/443"
        raise QuestionError(message)
    return ports.protocol, ports.first


def require_opening(service: tuple[int, int], text: str) -> None:
    """Refuse a question about a packet that opens nothing, whatever policies say.

    Raises:
        QuestionError: it is an ICMP message other than an echo request.
    """
    protocol, port = service
    if protocol == ICMP and port != _ECHO_REQUEST:
        message = (
            f"{text!r} opens no connection: gates carry echo requests (icmp), and errors along with the connection "
            "that they are about"
        )
        raise QuestionError(message)


def connect(source: End, destination: End, protocol: int, port: int) -> Connection | None:
    """Put the question together; None where no routing domain holds both ends, so that no packet can go.

    Raises:
        QuestionError: it takes a vNIC's name, or a VM, to tell which addresses are meant.
    """
    if source.vm is None and destination.vm is None:
        message = "two addresses do not tell a routing domain: name a VM for one of them"
        raise QuestionError(message)
    pairs = [
        (domain, left, right)
        for domain, left in _places(source, destination)
        for other, right in _places(destination, source)
        if domain == other
    ]
    if not pairs:
        return None
    if len(pairs) > 1:
        several = source if len(source.vnics) > 1 else destination
        names = " or ".join(f"{several}/{vnic.name}" for vnic in several.vnics)
        message = f"{several} has several vNICs that may be meant: write {names}"
        raise QuestionError(message)
    [(domain, left, right)] = pairs
    return Connection(routing_domain=domain, source=left, destination=right, protocol=protocol, port=port)


def _places(end: End, other: End) -> list[tuple[str, Address]]:
    """List the routing domains and addresses that an end may have, given the other one."""
    if end.address is not None:
        return [(domain, end.address) for domain in {v.network.routing_domain for v in _facing(other, end)}]
    return [(vnic.network.routing_domain, vnic.addresses[0]) for vnic in _facing(end, other)]


def _facing(end: End, other: End) -> list[Vnic]:
    """Pick the vNICs of ``end`` that share a network with ``other``, or all where none does."""
    if other.address is None:
        networks = {vnic.network.path for vnic in other.vnics}
        near = [vnic for vnic in end.vnics if vnic.network.path in networks]
    else:
        near = [vnic for vnic in end.vnics if any(other.address in net for net in vnic.network.subnets)]
    return near or list(end.vnics)
