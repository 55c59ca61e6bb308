"""How many VMs can leave at the most, whatever moves are made: asks only where everybody could be in the end."""

from __future__ import annotations

import math

import numpy as np

from serai.migration.plan.program import NOBODY, Sheet
from serai.migration.plan.rounds import Scene
from serai.migration.plan.solver import solve


def most_that_leave(scene: Scene) -> int:
    """Return a number of VMs that no sequence of moves exceeds."""
    sheet = Sheet()
    everybody = scene.there.sum(axis=1)[:, None]
    end = sheet.add(scene.spots | (scene.there > 0), np.where(scene.spots, everybody, scene.there))
    total = everybody[:, 0]
    sheet.put(sheet.rows(len(end), least=total, most=total)[:, None], end, 1)
    held = (scene.sizes.T @ scene.there).T
    room = np.maximum(scene.free, held)  # what holds too much may go on doing so
    for need, sizes in enumerate(scene.sizes.T):
        kinds = np.flatnonzero(sizes)
        places = np.flatnonzero(~scene.leaving & scene.spots[kinds].any(axis=0))
        sheet.put(sheet.rows(len(places), most=room[places, need]), end[np.ix_(kinds, places)], sizes[kinds, None])
    cost = np.zeros(sheet.quantities, np.int64)
    stay = end[:, scene.leaving]
    cost[stay[stay != NOBODY]] = 1
    bound = solve(sheet.program(cost)).bound
    return int(scene.there[:, scene.leaving].sum()) - (int(max(bound, 0)) if math.isfinite(bound) else 0)
