"""Empties hosts: by the plainest means first, and with the solver where they do not do."""

from __future__ import annotations

from typing import Final

import numpy as np

from serai.migration.plan import seek
from serai.migration.plan.bound import most_that_leave
from serai.migration.plan.bulk import in_bulk
from serai.migration.plan.greedy import spread_out
from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Look, Step
from serai.migration.plan.nearby import make_room
from serai.migration.plan.order import into_rounds, straight
from serai.migration.plan.regions import Regions

_SMALL: Final = 8_000
"""Kinds times hosts times rounds, up to which everything is looked at."""
_ROUNDS: Final = (1, 2, 4, 8)
"""How many are tried then."""
_RESERVES: Final = (0.25, 1.0, 0.0)
"""Of the memory of the largest VM that leaves: how much of each host is not counted on when many VMs are moved."""


def evacuate(layout: Layout) -> tuple[list[list[Step]], bool]:
    """Have as many VMs as possible leave the hosts that are closed.

    Args:
        layout: it is left as it is after all moves.

    Returns:
        Moves, in rounds; and whether it is proven that no more VMs can leave.
    """
    before = layout.place.copy()
    hopeful = [each for each in np.flatnonzero(layout.closed[layout.place]).tolist() if _has_a_place(layout, each)]
    moves, most = spread_out(layout, hopeful), len(hopeful)
    if len(moves) < most:
        for search in (_look_at_everything, _look_around):
            layout.put_back(before)
            moves, most = search(layout, moves, most)
        layout.put_back(before)
        apply(layout, moves)
        moves += spread_out(layout, np.flatnonzero(layout.closed[layout.place]).tolist())
    moves = straight(layout, moves)
    layout.put_back(before)
    rounds = into_rounds(layout, moves)
    apply(layout, moves)
    return rounds, _that_leave(layout, moves) >= most


def apply(layout: Layout, moves: list[Step]) -> None:
    """Have moves made."""
    for machine, _, to in moves:
        layout.move(machine, to)


def _has_a_place(layout: Layout, machine: int) -> bool:
    """Say whether a VM fits on any host where it may be, were that host empty."""
    kind = int(layout.kind[machine])
    return bool((layout.room[layout.spots(kind)] >= layout.sizes[kind]).all(axis=1).any())


def _look_at_everything(layout: Layout, moves: list[Step], most: int) -> tuple[list[Step], int]:
    """Find better moves than those at hand, if that is not too much; and how many VMs can leave at the most."""
    if len(layout.sizes) * len(layout.hosts) * 2 > _SMALL:
        return moves, most
    look = Look.at(layout, np.arange(len(layout.machines)), np.flatnonzero(~layout.closed))
    most = min(most, most_that_leave(look.scene))
    leave = _that_leave(layout, moves)
    for rounds in _ROUNDS:
        if leave >= most or look.scene.there.size * rounds > _SMALL:
            break
        found = seek.best(look.scene, rounds, most=most, more_than=leave)
        if found is not None:
            moves = look.moves(layout, *found)
            leave = _that_leave(layout, moves)
    return moves, most


def _look_around(layout: Layout, moves: list[Step], most: int) -> tuple[list[Step], int]:
    """Do the same where there is too much to look at: in the large first, then at some hosts at a time."""
    if _that_leave(layout, moves) >= most:
        return moves, most
    before = layout.place.copy()
    most = min(most, most_that_leave(Regions.of(layout).scene))
    largest = int(layout.sizes[layout.kind[layout.closed[layout.place]], 0].max())
    for reserve in _RESERVES:
        layout.put_back(before)
        others = in_bulk(layout, int(reserve * largest), most)
        moves = max(moves, others, key=lambda each: _that_leave(layout, each))
        if _that_leave(layout, moves) >= most:
            return moves, most
    layout.put_back(before)
    apply(layout, moves)
    moved = {machine for machine, source, _ in moves if layout.closed[source]}
    return moves + make_room(layout, moved, most - len(moved)), most


def _that_leave(layout: Layout, moves: list[Step]) -> int:
    return len({machine for machine, source, _ in moves if layout.closed[source]})
