"""Makes up what gates recorded in a world: conversations between VMs, and with ends that are none."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import yaml
from asking import asked
from resources import written

from serai.model.decode import decode
from serai.model.flow_record import Verdict
from serai.model.policy import Direction, Policy, Tier
from serai.model.ports import WITH_PORTS
from serai.model.world import World
from serai.policy.traffic.seen import Conversation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_VERDICTS = (Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.OBSERVED, Verdict.DENIED)


def recorded(world: World, choice: random.Random, number: int) -> list[Conversation]:
    """What may have been seen, whatever policies say of it."""
    found = []
    for connection in asked(world, choice, number):
        if any(getattr(address, "ipv4_mapped", None) for address in (connection.source, connection.destination)):
            continue  # no packet has such addresses
        ends = [
            (address, holder and holder[0].path, holder and holder[1].network.path)
            for address in (connection.source, connection.destination)
            for holder in [world.holder(connection.routing_domain, address)]
        ]
        (source, source_vm, source_net), (target, target_vm, target_net) = ends
        sides = [d for d, vm in ((Direction.EGRESS, source_vm), (Direction.INGRESS, target_vm)) if vm]
        if source_vm and target_vm and choice.random() < 0.5:
            sides = sides[:1]
        dynamic = connection.protocol in WITH_PORTS and connection.port >= 49152
        connections = choice.choice((0, 1, 1, 2, 50))
        verdict = choice.choice(_VERDICTS)
        first = NOW - timedelta(minutes=choice.randrange(60, 600))
        for side in sides:
            network = source_net if side is Direction.EGRESS else target_net
            found.append(
                Conversation(
                    source=source_vm or None, source_address=source, target=target_vm or None, target_address=target,
                    network=network or "", protocol=connection.protocol, port=0 if dynamic else connection.port,
                    verdict=verdict, side=side, connections=connections, packets=connections * 3,
                    bytes=connections * 200, first=first, last=first + timedelta(minutes=choice.randrange(60)),
                )
            )  # fmt: skip
    return found


def applied(world: World, text: str) -> tuple[World, tuple[Policy, ...]]:
    """Put policies that are written in YAML in force, with nothing else of the Tenant tier; return the world and them."""
    bare = dataclasses.replace(world, policies=tuple(p for p in world.policies if p.tier is not Tier.TENANT))
    files: Mapping[str, str] = written(bare)
    documents = [document for document in yaml.safe_load_all(text) if document]
    made = decode({**files, "suggested.yaml": text} if documents else files)
    names = {(document["metadata"]["scope"], document["metadata"]["name"]) for document in documents}
    return made, tuple(p for p in made.policies if (p.scope, p.name) in names)
