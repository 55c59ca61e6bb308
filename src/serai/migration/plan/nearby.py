"""Finds room for the few VMs that are left: looks at some hosts at a time, closely."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from serai.migration.plan import seek
from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Look, Step
from serai.migration.plan.program import Ints

_WIDTHS: Final = (4, 8, 16, 32, 64)
"""How many hosts of each sort are looked at, one after the other."""
_LARGE: Final = 12_000
"""Kinds times hosts that are looked at, at the most."""
_AT_A_TIME: Final = 64
"""VMs that are left."""
_ROUNDS: Final = 2


def make_room(layout: Layout, moved: Collection[int], hope: int) -> list[Step]:
    """Find moves for VMs that are left on closed hosts, and for those in their way.

    Args:
        layout: it is changed.
        moved: VMs that have left already: that they go elsewhere in the end costs nothing.
        hope: so many can leave yet, for all that is known.

    Returns:
        The moves, in order.
    """
    moves: list[Step] = []
    for width in _WIDTHS:
        left = np.flatnonzero(layout.closed[layout.place])
        left = left[np.argsort(layout.sizes[layout.kind[left], 0], kind="stable")]  # the smallest have the best chance
        some = left[: min(_AT_A_TIME, 2 * hope)]
        if not len(some):
            break
        look = _around(layout, some, moved, width)
        if look.scene.there.size > _LARGE:
            break
        found = seek.best(look.scene, _ROUNDS, most=min(len(some), hope))
        more = look.moves(layout, *found) if found is not None else []
        for machine, _, to in more:
            layout.move(machine, to)
        moves += more
        hope -= sum(bool(layout.closed[source]) for _, source, _ in more)
    return moves


def _around(layout: Layout, left: Ints, moved: Collection[int], width: int) -> Look:
    """Look at the hosts where VMs might go that are left, and at those where VMs might go that are in their way.

    Those that have most room, of either sort. VMs that are kept apart stay, but for those that are left, and whom they are kept apart from.
    """
    kinds = np.unique(layout.kind[left]).tolist()
    asked = {other for kind in kinds for other in layout.neighbours(kind)} | set(kinds)
    loose = np.array([not groups or kind in asked for kind, groups in enumerate(layout.apart)], bool)
    near = roomiest(layout, kinds, width)
    others = loose[layout.kind] & ~layout.closed[layout.place]
    in_the_way = np.unique(layout.kind[others & np.isin(layout.place, near)]).tolist()
    hosts = np.union1d(near, roomiest(layout, in_the_way, width))
    machines = np.union1d(left, np.flatnonzero(others & np.isin(layout.place, hosts)))
    return Look.at(layout, machines, hosts, free=moved)


def roomiest(layout: Layout, kinds: list[int], width: int) -> Ints:
    """Return the hosts that have most memory left among those to which kinds may move; so many for each sort of hosts."""
    order = np.argsort(layout.load[:, 0] - layout.room[:, 0], kind="stable")
    found: set[int] = set()
    for spots in {int(layout.allowed[kind]): layout.spots(kind) for kind in kinds}.values():
        found.update(order[spots[order]][:width].tolist())
    return np.array(sorted(found), np.int64)
