"""Who can reach whom, against the evaluator on random worlds, and as people read it."""

from __future__ import annotations

import random
from pathlib import Path

from asking import accepts, asked, is_told
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.inventory.files import load
from serai.model.policy import Group, InCidr
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.questions.choice import Choice
from serai.policy.questions.reach import Reach, reach

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
ANYHOW = settings(max_examples=60, deadline=None)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_what_is_told_is_what_both_sides_accept(world: World, choice: random.Random) -> None:
    rows = [row for found in reach(world) for row in found.rows]
    for connection in asked(world, choice, 300):
        assert is_told(rows, [world], connection) == accepts(world, connection), connection


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_a_part_of_the_question_gets_that_part_of_the_answer(world: World, choice: random.Random) -> None:
    source = Choice(peers=(InCidr(prefix=choice.choice([*world.quarantine, *CIDRS])),))
    target = Choice(peers=(Group(scope=Scope("/acme")),), outside=choice.random() < 0.5)
    rows = [row for found in reach(world, source, target) for row in found.rows]
    for connection in asked(world, choice, 200):
        ends = (connection.source, connection.destination)
        holders = [world.holder(connection.routing_domain, address) for address in ends]
        [cidr] = source.peers
        assert isinstance(cidr, InCidr)
        meant = connection.source in cidr.prefix and (
            target.outside if holders[1] is None else holders[1][0].scope.tenant == "acme"
        )
        assert is_told(rows, [world], connection) == (meant and accepts(world, connection)), connection


CIDRS = [p for found in (load(EXAMPLE),) for p in (n.subnets[0] for n in found.networks.values())]


def told(found: Reach) -> list[tuple[str, str, str]]:
    return [
        (
            ", ".join(part.name for part in row.source),
            ", ".join(part.name for part in row.target),
            ", ".join(row.ports.texts(row.versions)),
        )
        for row in found.rows
    ]


def test_the_example_is_told_in_few_words() -> None:
    acme, globex = reach(load(EXAMPLE))
    assert told(acme) == [
        ("/acme/shop:app", "/acme/shop:db", "tcp/5432"),
        ("/acme/shop:web", "/acme/shop:app", "tcp/8080"),
        ("outside 10.0.0.250", "/acme/shop:web", "tcp/80, tcp/7778"),
    ]
    assert told(globex) == [
        ("/globex/crm", "/globex/crm", "icmp"),
        ("/globex/crm:app", "/globex/crm:db", "tcp/5432"),
        ("/globex/crm:web", "/globex/crm:app", "tcp/8080"),
        ("outside 10.0.0.250", "/globex/crm:web", "tcp/80, tcp/7778"),
    ]


def test_order_of_arrival_is_nothing() -> None:
    world = load(EXAMPLE)
    turned = World(
        networks=world.networks,
        vms=dict(reversed(world.vms.items())),
        policies=tuple(reversed(world.policies)),
        last_word=world.last_word,
    )
    assert [told(found) for found in reach(turned)] == [told(found) for found in reach(world)]
