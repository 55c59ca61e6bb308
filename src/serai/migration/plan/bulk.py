"""Moves many VMs at once: the solver says how many of each type go from which region to which, and they are spread out there."""

from __future__ import annotations

import heapq

import numpy as np

from serai.migration.plan import seek
from serai.migration.plan.greedy import spread_out
from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Step, counts
from serai.migration.plan.program import Bools
from serai.migration.plan.regions import Regions

_ROUNDS = 2
"""First those move who are in the way."""


def in_bulk(layout: Layout, reserve: int, most: int) -> list[Step]:
    """Have as many VMs as possible leave the closed hosts, and others make room for them.

    Args:
        layout: it is changed.
        reserve: memory of each host in MiB that is not counted on, because rooms do not add up.
        most: more cannot leave.

    Returns:
        The moves, in order.
    """
    regions = Regions.of(layout, reserve)
    found = seek.best(regions.scene, _ROUNDS, most=most)
    if found is None:
        return []
    asked, values = found
    moves = []
    for arrive, depart in zip(asked.arrive, asked.depart, strict=True):
        change = counts(values, arrive) - counts(values, depart)
        within: dict[int, Bools] = {}
        for type_ in np.flatnonzero(change.any(axis=1)).tolist():
            targets = np.repeat(np.arange(change.shape[1]), np.maximum(change[type_], 0)).tolist()
            sources = [
                machine
                for region, more in enumerate(change[type_].tolist())
                for machine in _some(layout, regions, type_, region, max(-more, 0))
            ]
            within |= {machine: regions.region == region for machine, region in zip(sources, targets, strict=True)}
        moves += spread_out(layout, within, within)
    return moves


def _some(layout: Layout, regions: Regions, type_: int, region: int, count: int) -> list[int]:
    """Return some VMs of a type in a region: each of the host that would be the fullest without those before."""
    machines = np.flatnonzero((regions.type == type_) & (regions.region[layout.place] == region)).tolist()
    waiting: dict[int, list[int]] = {}
    for machine in sorted(machines, key=lambda each: (bool(layout.apart[layout.kind[each]]), each), reverse=True):
        waiting.setdefault(int(layout.place[machine]), []).append(machine)
    free = [(int(layout.room[host, 0] - layout.load[host, 0]), host) for host in waiting]
    heapq.heapify(free)
    found = []
    for _ in range(count):
        room, host = heapq.heappop(free)
        found.append(waiting[host].pop())
        if waiting[host]:
            heapq.heappush(free, (room + layout.machines[found[-1]].memory_mib, host))
    return found
