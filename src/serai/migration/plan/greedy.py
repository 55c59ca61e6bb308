"""Each VM to the host that has most room left: where that works for all, no search is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Step
from serai.migration.plan.program import Bools


def spread_out(layout: Layout, machines: Iterable[int], within: Mapping[int, Bools] | None = None) -> list[Step]:
    """Move VMs for which there is room, those first that have least choice, and of those the largest.

    Args:
        layout: it is changed.
        machines: VMs.
        within: where each shall go; None: wherever it may.

    Returns:
        The moves, in order.
    """
    moves = []
    memory = np.maximum(layout.room[:, 0], 1)
    for machine in sorted(machines, key=lambda each: _difficulty(layout, each)):
        fits = layout.fits(int(layout.kind[machine]))
        places = np.flatnonzero(fits if within is None else fits & within[machine])
        if len(places):
            fullness = (layout.load[places, 0] + layout.machines[machine].memory_mib) / memory[places]
            source, to = int(layout.place[machine]), int(places[np.argmin(fullness)])
            layout.move(machine, to)
            moves.append((machine, source, to))
    return moves


def _difficulty(layout: Layout, machine: int) -> tuple[int, int, int, int]:
    vm = layout.machines[machine]
    return int(layout.spots(int(layout.kind[machine])).sum()), -vm.memory_mib, -vm.vnics, machine
