"""Makes hosts about equally full."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Final

import numpy as np

from serai.migration.plan.asked import Rebalance
from serai.migration.plan.layout import Layout
from serai.migration.plan.levels import Levels, level
from serai.migration.plan.look import Look, Step
from serai.migration.plan.nearby import roomiest
from serai.migration.plan.order import into_rounds
from serai.migration.plan.program import Bools, Ints

_SMALL: Final = 4_000
"""Kinds times hosts, up to which everything is looked at at once."""
_WIDTH: Final = 12
"""How many of the hosts that are farthest off, and as many of each sort that can help, are looked at where that is too much."""
_LOOKS: Final = 60
"""How often, at the most."""


def rebalance(layout: Layout, goal: Rebalance) -> tuple[list[list[Step]], bool]:
    """Have the open hosts be about equally full.

    Args:
        layout: hosts that are none of the goal's are closed. It is left as it is after all moves.
        goal: what is aimed for.

    Returns:
        Moves, in rounds; and whether it is proven that none do better, of those that do not wait for others.
    """
    before = layout.place.copy()
    if len(layout.sizes) * len(layout.hosts) <= _SMALL:
        moves, proven = _look(layout, goal, np.flatnonzero(~layout.closed), ~layout.closed[layout.place])
    else:
        moves, proven = _look_around(layout, goal)
    after = layout.place.copy()
    layout.put_back(before)
    rounds = into_rounds(layout, moves)
    layout.put_back(after)
    return rounds, proven


def _look_around(layout: Layout, goal: Rebalance) -> tuple[list[Step], bool]:
    """Look at the hosts that are farthest off, and those that can help, until all have been looked at. VMs that are kept apart stay."""
    movable: Bools = ~layout.closed[layout.place] & np.array([not groups for groups in layout.apart], bool)[layout.kind]
    moves: list[Step] = []
    tried: set[int] = set()
    for _ in range(_LOOKS):
        off = _off(layout, goal)
        off[list(tried)] = 0
        worst = np.argsort(-off, kind="stable")[:_WIDTH]
        worst = worst[off[worst] > 0]
        if not len(worst):
            break
        tried |= set(worst.tolist())
        kinds = np.unique(layout.kind[movable & np.isin(layout.place, worst)]).tolist()
        fullest = _fullest(layout)[:_WIDTH]
        hosts = np.unique(np.concatenate([worst, fullest, roomiest(layout, kinds, _WIDTH)]))
        more, _ = _look(layout, dataclasses.replace(goal, most_moves=goal.most_moves - len(moves)), hosts, movable)
        movable[[machine for machine, _, _ in more]] = False
        moves += more
    return moves, not _off(layout, goal).any() and not moves


def _fullest(layout: Layout) -> Ints:
    """Return the open hosts, the fullest first."""
    pool = np.flatnonzero(~layout.closed)
    return pool[np.argsort(-layout.load[pool, 0] / np.maximum(layout.room[pool, 0], 1), kind="stable")]


def _look(layout: Layout, goal: Rebalance, hosts: Ints, movable: Bools) -> tuple[list[Step], bool]:
    """Make the moves that are best for some hosts, among them."""
    look = Look.at(layout, np.flatnonzero(movable & np.isin(layout.place, hosts)), hosts)
    low, high, aim = _levels(layout, goal)
    held = layout.load[hosts, 0]
    found = level(look.scene, Levels(low=low[hosts], high=high[hosts], aim=aim[hosts], held=held), goal.most_moves)
    if found is None:
        return [], False
    moves = look.moves(layout, found.asked, found.values)
    for machine, _, to in moves:
        layout.move(machine, to)
    return moves, found.proven


def _off(layout: Layout, goal: Rebalance) -> Ints:
    """Return how much memory of each host is out of bounds."""
    low, high, _ = _levels(layout, goal)
    held = layout.load[:, 0]
    return np.where(layout.closed, 0, np.maximum(held - high, 0) + np.maximum(low - held, 0))


def _levels(layout: Layout, goal: Rebalance) -> tuple[Ints, Ints, Ints]:
    """Return how much memory each host shall have given away: at the least, at the most, and at best.

    Hosts that admit nobody may have less.
    """
    pool = ~layout.closed
    mean = Fraction(int(layout.load[pool, 0].sum()), max(int(layout.room[pool, 0].sum()), 1))
    within = Fraction(goal.within).limit_denominator(10_000)
    rooms = layout.room[:, 0].tolist()
    low = np.array([max(math.ceil(room * (mean - within)), 0) for room in rooms], np.int64)
    high = np.array([math.floor(room * (mean + within)) for room in rooms], np.int64)
    aim = np.array([round(room * mean) for room in rooms], np.int64)
    return np.where(layout.admits, low, 0), high, aim
