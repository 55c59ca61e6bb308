"""Does a rule match a connection? The plain meaning of peers and ports."""

from __future__ import annotations

import dataclasses

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Clause, Group, InCidr, OnNetwork, Peer, Rule


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The other end, as the judging vNIC's routing domain knows it."""

    address: Address
    holder: tuple[VirtualMachine, Vnic] | None
    """Who holds the address there; None where no VM does."""


def matches(rule: Rule, remote: Remote, protocol: int, port: int) -> bool:
    """Say whether any clause of the rule has both the peer and the port."""
    return any(is_peer(clause.peer, remote) and has_port(clause, protocol, port) for clause in rule.clauses)


def has_port(clause: Clause, protocol: int, port: int) -> bool:
    """Say whether the clause is about this protocol and port."""
    return not clause.ports or any(ports.contains(protocol, port) for ports in clause.ports)


def is_peer(peer: Peer | None, remote: Remote) -> bool:
    """Say whether ``peer`` means the other end."""
    match peer:
        case None:
            return True
        case InCidr():
            return remote.address in peer.prefix
        case Group():
            if remote.holder is None:
                return False
            vm, _ = remote.holder
            return peer.contains(vm.scope, vm.labels)
        case OnNetwork():
            if remote.holder is None:
                return False
            _, vnic = remote.holder
            return vnic.network.path == peer.path
