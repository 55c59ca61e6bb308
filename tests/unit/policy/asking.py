"""Looks single connections up in rows, as a program would that reads them, and makes questions to compare."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import ip_address

from serai.model.address import Address
from serai.model.policy import ANY_PROTOCOL, Action, Clause, InCidr
from serai.model.ports import ECHO_REQUEST, WITH_PORTS
from serai.model.tunnels import is_tunnel
from serai.model.world import World
from serai.policy.evaluate import Connection, judge
from serai.policy.questions.names import Part
from serai.policy.questions.rows import Row

ECHO = {4: (1, 8 << 8), 6: (58, 128 << 8)}
ELSEWHERE = tuple(map(ip_address, ("198.51.100.9", "10.0.0.200", "2a00::8", "2001:db8:0:1::99", "fe80::99")))
LAST_PORT = 65535


def asked(world: World, choice: random.Random, number: int) -> list[Connection]:
    """Connections that packets can open, with a VM at one end at least, where rules begin and end."""
    cards = list(world.vnics())
    services = sorted(_services(world))
    outside = sorted({*ELSEWHERE, *_beside(world)}, key=lambda address: (address.version, int(address)))
    chance = random.Random(choice.randrange(1 << 30))
    found = []
    for _ in range(number if cards else 0):
        _, vnic = chance.choice(cards)
        domain = vnic.network.routing_domain
        near = chance.choice(vnic.held)
        others = [a for _, other in cards if other.network.routing_domain == domain for a in other.held]
        far = chance.choice([a for a in (*others, *outside) if a.version == near.version])
        protocol, port = chance.choice([*services, ECHO[near.version]])
        if far not in vnic.held:
            source, target = chance.sample((near, far), 2)
            found.append(
                Connection(routing_domain=domain, source=source, destination=target, protocol=protocol, port=port)
            )
    return found


def _clauses(world: World) -> list[Clause]:
    return [c for p in world.policies for rules in p.rules.values() for rule in rules for c in rule.clauses]


def _services(world: World) -> set[tuple[int, int]]:
    found = {(protocol, port) for protocol in WITH_PORTS for port in (0, 443, LAST_PORT)} | {(50, 0)}
    for ports in (ports for clause in _clauses(world) for ports in clause.ports):
        if ports.protocol in WITH_PORTS:
            edges = (ports.first - 1, ports.first, ports.last, ports.last + 1)
            found |= {(ports.protocol, edge) for edge in edges if 0 <= edge <= LAST_PORT}
        elif ports.protocol not in ECHO_REQUEST and ports.protocol != ANY_PROTOCOL:
            found.add((ports.protocol, 0))
    return {service for service in found if not is_tunnel(*service)}


def _beside(world: World) -> set[Address]:
    """The ends of all prefixes that policies tell apart, and their neighbours outside."""
    prefixes = {clause.peer.prefix for clause in _clauses(world) if isinstance(clause.peer, InCidr)}
    return {
        type(prefix.network_address)(at)  # type: ignore[arg-type]
        for prefix in {*prefixes, *world.quarantine}
        for first, last in [(int(prefix.network_address), int(prefix.broadcast_address))]
        for at in (first - 1, first, last, last + 1)
        if 0 <= at < 2**prefix.max_prefixlen
    }


def accepts(world: World, connection: Connection) -> bool:
    """The oracle's word."""
    return judge(world, connection).action is Action.ACCEPT


def is_told(rows: Iterable[Row], worlds: Iterable[World], connection: Connection) -> bool:
    """Some row says that this connection can be opened. Outside is what no VM of any of the worlds holds."""
    domain = connection.routing_domain
    source, target = (
        (address, any(world.holder(domain, address) for world in worlds))
        for address in (connection.source, connection.destination)
    )
    return any(
        row.routing_domain == domain
        and connection.source.version in row.versions
        and (connection.protocol, connection.port) in row.ports
        and _is_one(row.source, *source)
        and _is_one(row.target, *target)
        for row in rows
    )


def _is_one(parts: Iterable[Part], address: Address, held: bool) -> bool:  # noqa: FBT001
    for part in parts:
        if held and address in part.addresses:
            return True
        ranges = () if held else part.outside
        if any(address in prefix and not any(address in other for other in out) for prefix, out in ranges):
            return True
    return False
