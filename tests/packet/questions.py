"""Questions about random worlds: which connections are asked about, and why just these."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st
from policies import ICMP, ICMP_TYPES, ICMPV6, NUMBERS, TCP, WITH_PORTS

from serai.model.address import Address, Prefix
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import ANY_PROTOCOL, Direction, InCidr
from serai.model.tunnels import is_tunnel
from serai.model.world import World

seeds = st.integers(0, 2**32 - 1)
"""What a sample of questions depends on, beside the world."""

_LAST_PORT = 65535
_DHCP = frozenset({67, 68, 546, 547})
_PORTS = (0, 22, 53, 80, 443, 1023, 1024, 8080, 65535)


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """May this connection be opened, as far as this vNIC has a say?"""

    vm: VirtualMachine
    vnic: Vnic
    direction: Direction
    remote: Address
    protocol: int
    port: int

    @property
    def asked(self) -> tuple[Direction, Address, int, int]:
        """As flow rows have it."""
        return self.direction, self.remote, self.protocol, self.port

    @property
    def mine(self) -> Address | None:
        """The address that the vNIC uses towards the remote end; None where it has none of its version."""
        return next((a for a in self.vnic.held if a.version == self.remote.version), None)

    @property
    def carried(self) -> bool:
        """Can there be such a packet, and is it policy's business?"""
        if self.mine is None or self.protocol == {4: ICMPV6, 6: ICMP}[self.remote.version]:
            return False
        if self.protocol in ICMP_TYPES:
            return self.port == {ICMP: 8 << 8, ICMPV6: 128 << 8}[self.protocol]
        # Protocol 0 is a header of IPv6; tunnels and DHCP are for the gate to decide.
        return self.protocol > 0 and not is_tunnel(self.protocol, self.port) and self.port not in _DHCP


def questions(world: World, seed: int, count: int, fits: Callable[[Question], bool] = lambda _: True) -> list[Question]:
    """Return up to ``count`` questions that fit: about what the policies speak of, and right beside it."""
    choice = random.Random(seed)
    cards = list(world.vnics())
    ports = _ports(world)
    protocols = [*ports, *(protocol for protocol in ports if protocol in WITH_PORTS), TCP]
    remotes = {domain: _remotes(world, domain) for domain in {v.network.routing_domain for _, v in cards}}
    found: list[Question] = []
    for _ in range(3 * count if cards else 0):
        vm, vnic = choice.choice(cards)
        protocol = choice.choice(protocols)
        question = Question(
            vm, vnic, choice.choice(tuple(Direction)), choice.choice(remotes[vnic.network.routing_domain]), protocol,
            choice.choice(ports[protocol]),
        )  # fmt: skip
        if question.remote not in vnic.held and fits(question):
            found.append(question)
        if len(found) == count:
            break
    return found


def _ports(world: World) -> dict[int, list[int]]:
    """By protocol, the ports worth asking about: where a range of some rule begins and ends, and next to it."""
    found: dict[int, set[int]] = {protocol: set(_PORTS) for protocol in WITH_PORTS}
    found |= {p: {(128 if p == ICMPV6 else 8) << 8, *((t << 8) + 4 for t in types)} for p, types in ICMP_TYPES.items()}
    for policy in world.policies:
        for clause in (c for rules in policy.rules.values() for rule in rules for c in rule.clauses):
            for r in clause.ports:
                if r.protocol in WITH_PORTS:
                    edges = {r.first - 1, r.first, r.last, r.last + 1}
                    found[r.protocol] |= {edge for edge in edges if 0 <= edge <= _LAST_PORT}
                elif r.protocol not in found and r.protocol != ANY_PROTOCOL:
                    found[r.protocol] = {0}
    return {**{p: [0] for p in NUMBERS}, **{p: sorted(ports) for p, ports in found.items()}}


def _remotes(world: World, domain: str) -> list[Address]:
    """Who holds an address there, and who stands in and beside the prefixes that policies name."""
    held = {a for _, vnic in world.vnics() if vnic.network.routing_domain == domain for a in vnic.held}
    prefixes = {
        clause.peer.prefix
        for policy in world.policies
        for rules in policy.rules.values()
        for rule in rules
        for clause in rule.clauses
        if isinstance(clause.peer, InCidr)
    } | set(world.quarantine)
    outside = {_unicast(a) for prefix in prefixes for a in _around(prefix)}
    fixed = {IPv4Address("198.51.100.9"), IPv6Address("2a00::8")}
    return sorted(held | fixed | (outside - {None}), key=lambda a: (a.version, a))


def _around(prefix: Prefix) -> list[Address]:
    """A prefix's second and last but one address, and those just outside of it."""
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    few = last - first < 4
    numbers = (first, last, first - 2, last + 2) if few else (first + 1, last - 1, first - 2, last + 2)
    make = IPv4Address if prefix.version == 4 else IPv6Address
    return [make(n) for n in numbers if 0 < n < 2**prefix.max_prefixlen - 1]


def _unicast(address: Address) -> Address | None:
    """The address if a packet can come from it as well as go there."""
    odd = address.is_multicast or address.is_loopback or address.is_unspecified
    if isinstance(address, IPv6Address):
        return None if odd or address.ipv4_mapped else address
    return None if odd or address >= IPv4Address("224.0.0.0") else address
