"""How many hosts the same VMs need: on one pool of hosts with tags, and on pools of their own, as VLANs keep what must not meet apart.

A pool's hosts are its own for good. Each pool has one host more than its VMs need at their busiest, so that any can be emptied.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from bench.tagged import EXCLUSIVE, MEMORY_MIB, ROOM_VNICS, VNICS, Tags
from serai.migration.plan.asked import Evacuate, Machine, PlanHost
from serai.migration.plan.planner import plan

TAGS: Final = ("pci", "dmz", "health", "eu", "gov")
ROOM_MIB: Final = 1536 * 1024
"""Memory of a host."""
AWAKE: Final = ((1.0, 0.45), (0.35, 1.0))
"""What share of its VMs a combination of tags needs by day and by night: offices, and those that calculate by night."""
_OFFICES: Final = 2
"""Of three combinations, so many are offices."""
_OUTSIDE: Final = "outside"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What came of it."""

    hosts: int
    memory_mib: int
    """That VMs have at the busiest time of all together."""

    @property
    def used(self) -> float:
        """What share of all memory of the hosts that is."""
        return self.memory_mib / (self.hosts * ROOM_MIB)


Moment = Mapping[Tags, Sequence[int]]
"""The VMs that run, by their tags: the memory that each has."""


def moments(vms: int, seed: int = 1) -> tuple[Moment, Moment]:
    """Return who runs by day and by night, of so many VMs. Few combinations of tags have many VMs, and many few."""
    choice = random.Random(seed)  # noqa: S311 (the same every time, on purpose)
    sets = [Tags(some) for count in range(len(TAGS)) for some in itertools.combinations(TAGS, count)]
    choice.shuffle(sets)
    weights = [1 / (rank + 2) for rank in range(len(sets))]
    every: dict[Tags, list[int]] = {tags: [] for tags in sets}
    for tags in choice.choices(sets, weights, k=vms):
        every[tags].append(choice.choice(MEMORY_MIB))
    shares = {tags: AWAKE[at % (_OFFICES + 1) >= _OFFICES] for at, tags in enumerate(sets)}
    day, night = (
        {tags: memory[: round(len(memory) * shares[tags][at])] for tags, memory in every.items()} for at in range(2)
    )
    return day, night


def by_tags(times: Iterable[Moment]) -> Needed:
    """Count the hosts that carry all tags, and those that carry an exclusive one too and take nobody else."""
    return _needed(times, lambda tags: tags & EXCLUSIVE)


def by_partition(times: Iterable[Moment]) -> Needed:
    """Count the hosts where each combination of tags has some of its own."""
    return _needed(times, lambda tags: tags)


def hosts_for(memory: Sequence[int]) -> int:
    """Return how few hosts take VMs with so much memory: those to which the planner can move all of them from outside."""
    count = max(-(-sum(memory) // ROOM_MIB), -(-len(memory) * VNICS // ROOM_VNICS))
    while memory:
        hosts = [PlanHost(name=f"host-{at}", memory_mib=ROOM_MIB, vnics=ROOM_VNICS) for at in range(count)]
        allowed = frozenset(host.name for host in hosts)
        machines = [
            Machine(path=f"/t:vm{at}", host=_OUTSIDE, memory_mib=need, vnics=VNICS, allowed=allowed)
            for at, need in enumerate(memory)
        ]
        outside = PlanHost(name=_OUTSIDE, memory_mib=sum(memory), vnics=len(memory) * VNICS)
        if not plan([*hosts, outside], machines, Evacuate(hosts=frozenset({_OUTSIDE}))).stuck:
            break
        count += 1
    return count


def _needed(times: Iterable[Moment], pool_of: Callable[[Tags], Tags]) -> Needed:
    most: collections.Counter[Tags] = collections.Counter()
    memory = 0
    for moment in times:
        pools: dict[Tags, list[int]] = {}
        for tags, needs in moment.items():
            pools.setdefault(pool_of(tags), []).extend(needs)
        for pool, needs in pools.items():
            most[pool] = max(most[pool], hosts_for(needs))
        memory = max(memory, sum(map(sum, moment.values())))
    return Needed(hosts=sum(count + 1 for count in most.values() if count), memory_mib=memory)
