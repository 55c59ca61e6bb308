"""Looks single connections up in rows, as a program would that reads them, and makes questions to compare."""

from __future__ import annotations

import random
from collections.abc import Iterable

from worlds import questions

from serai.model.address import Address
from serai.model.policy import Action, Direction
from serai.model.world import World
from serai.policy.evaluate import Connection, judge
from serai.policy.names import Part
from serai.policy.rows import Row

VERSION_OF = {1: 4, 58: 6}


def asked(world: World, choice: random.Random, number: int) -> list[Connection]:
    """Connections that packets can open, with a VM at one end at least."""
    found = []
    for question in choice.sample(questions(world), number):
        mine = [a for a in question.vm.vnics[0].held if a.version == question.remote.version]
        if not mine or VERSION_OF.get(question.protocol, question.remote.version) != question.remote.version:
            continue
        near, far = choice.choice(mine), question.remote
        source, target = (near, far) if question.direction is Direction.EGRESS else (far, near)
        found.append(
            Connection(
                routing_domain=question.vm.vnics[0].network.routing_domain,
                source=source,
                destination=target,
                protocol=question.protocol,
                port=question.port,
            )
        )
    return found


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
