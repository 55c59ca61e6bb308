"""What a change opens and closes, against the evaluator on random pairs of worlds."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from asking import accepts, asked, is_told
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.inventory.files import load
from serai.model.world import World
from serai.policy.evaluate import Connection
from serai.policy.questions.diff import diff
from serai.policy.questions.names import Part, State
from serai.policy.questions.rows import Row

EXAMPLE = Path(__file__).parents[3] / "examples/datacenter"
ANYHOW = settings(max_examples=50, deadline=None)


def some(world: World, choice: random.Random) -> World:
    """A part of its VMs: those that only one of two worlds has are new or gone."""
    return dataclasses.replace(world, vms={p: vm for p, vm in world.vms.items() if choice.random() < 0.8})


def is_there(world: World, connection: Connection, both: tuple[bool, bool]) -> bool:
    """Both ends are there, as VMs where the other world has VMs at their addresses."""
    ends = (connection.source, connection.destination)
    held = [world.holder(connection.routing_domain, address) is not None for address in ends]
    return any(held) and all(mine or not anybodys for mine, anybodys in zip(held, both, strict=True))


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_what_is_opened_and_closed_is_what_is_judged_otherwise(old: World, new: World, choice: random.Random) -> None:
    old, new = some(old, choice), some(new, choice)
    opened = [row for found in diff(old, new) for row in found.opened]
    closed = [row for found in diff(old, new) for row in found.closed]
    for world in (old, new):
        for connection in asked(world, choice, 150) if world.vms else ():
            ends = (connection.source, connection.destination)
            both = tuple(any(w.holder(connection.routing_domain, a) for w in (old, new)) for a in ends)
            then, now = (is_there(w, connection, both) and accepts(w, connection) for w in (old, new))  # type: ignore[arg-type]
            assert is_told(opened, [old, new], connection) == (now and not then), connection
            assert is_told(closed, [old, new], connection) == (then and not now), connection


@ANYHOW
@given(worlds())
def test_a_world_does_not_differ_from_itself(world: World) -> None:
    again = dataclasses.replace(world, policies=tuple(reversed(world.policies)))
    assert not any(found.opened or found.closed for found in diff(world, again))


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_the_way_back_closes_what_was_opened(old: World, new: World, choice: random.Random) -> None:
    old, new = some(old, choice), some(new, choice)
    for there, back in zip(diff(old, new), diff(new, old), strict=True):
        assert there.opened == tuple(map(turned, back.closed))
        assert tuple(map(turned, there.closed)) == back.opened


def turned(row: Row) -> Row:
    """What was gone is new."""

    def parts(side: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(dataclasses.replace(p, state=State.NEW if p.state is State.GONE else p.state) for p in side)

    return dataclasses.replace(row, source=parts(row.source), target=parts(row.target))


def test_a_name_alone_is_no_difference() -> None:
    world = load(EXAMPLE)
    renamed = {path: dataclasses.replace(vm, name=f"{vm.name}-2") for path, vm in world.vms.items()}
    other = dataclasses.replace(world, vms={vm.path: vm for vm in renamed.values()})
    assert not any(found.opened or found.closed for found in diff(world, other))


def test_a_vm_that_is_new_is_told_apart() -> None:
    new = load(EXAMPLE)
    old = dataclasses.replace(new, vms={path: vm for path, vm in new.vms.items() if path != "/acme/shop:db"})
    acme, globex = diff(old, new)
    assert not acme.closed
    assert not globex.opened
    [row] = acme.opened
    assert [(part.name, part.state) for part in (*row.source, *row.target)] == [
        ("/acme/shop:app", State.BOTH),
        ("/acme/shop:db", State.NEW),
    ]
    [gone] = diff(new, old)[0].closed
    assert [(part.name, part.state) for part in gone.target] == [("/acme/shop:db", State.GONE)]
