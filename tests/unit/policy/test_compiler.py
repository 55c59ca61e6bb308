"""However it came about: what the compiler keeps is what compiling everything anew gives, byte for byte."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.model.columns import Columns
from serai.model.ruleset_delta import Delta
from serai.model.world import World
from serai.policy.compile import compile_host
from serai.policy.compiler import Compiler
from serai.policy.update import Update

HOSTS = ("a", "b", "c")


def placed(world: World, choice: random.Random) -> dict[str, tuple[str, ...]]:
    return {path: tuple(choice.sample(HOSTS, choice.choice((0, 1, 1, 2)))) for path in sorted(world.vms)}


def require_as_new(compiler: Compiler, world: World, places: dict[str, tuple[str, ...]]) -> None:
    for host in HOSTS:
        mine = [path for path, hosts in places.items() if host in hosts and path in world.vms]
        assert compiler.ruleset(host).encode() == compile_host(world, host, mine).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(worlds(), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_one_world_after_another(several: list[World], choice: random.Random) -> None:
    world = several[0]
    places = placed(world, choice)
    compiler = Compiler.of(
        world.policies, Columns.of(world.vms.values()), places, last_word=world.last_word, quarantine=world.quarantine
    )
    require_as_new(compiler, world, places)
    for following in several[1:]:
        held = {host: compiler.ruleset(host) for host in HOSTS}
        moved = placed(following, choice)
        change = Update.between(world, following).then(Update(places=moved | dict.fromkeys(places.keys() - moved.keys(), ())))
        deltas = compiler.update(change)
        world, places = following, moved
        require_as_new(compiler, world, places)
        for host in HOSTS:
            if host in deltas:
                delta = Delta.decode(deltas[host].encode())
                assert delta.apply(held[host]).encode() == compiler.ruleset(host).encode()
            else:
                assert held[host].digest == compiler.ruleset(host).digest
