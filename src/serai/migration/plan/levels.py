"""The program that fills places equally: who moves from where to where, so that each is nearly as full as all are together.

All moves are of one round: none has to wait for another.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from serai.migration.plan.program import NOBODY, Ints, Sheet
from serai.migration.plan.rounds import Rounds, Scene, as_many_arrive, room
from serai.migration.plan.solver import solve


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """What each place shall hold of memory, in MiB: as near to ``aim`` as can be, and between ``low`` and ``high`` if that can be."""

    low: Ints
    high: Ints
    aim: Ints
    held: Ints
    """It holds so much now."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levelled:
    """What was found."""

    asked: Rounds
    values: Ints
    proven: bool
    """There is nothing better: less out of bounds, or as little with fewer moves."""


def level(scene: Scene, levels: Levels, most_moves: int) -> Levelled | None:
    """Find moves after which as little memory as possible is out of bounds; of those few ones; of those the ones that come nearest.

    Args:
        scene: what is looked at; nobody is at its first place, which is to become empty.
        levels: of each place but that.
        most_moves: not more than so many.

    Returns:
        None: nothing was found.
    """
    writing = _Writing(scene, levels, most_moves)
    out = writing.solve(writing.out)
    if out is None:
        return None
    writing.at_most(writing.out, out.values)
    few = writing.solve(writing.moves) or out
    writing.at_most(writing.moves, few.values)
    near = writing.solve(writing.off) or few
    return dataclasses.replace(near, proven=out.proven and few.proven)


class _Writing:
    """One program, with one thing after the other made least."""

    def __init__(self, scene: Scene, levels: Levels, most_moves: int) -> None:
        sheet = self._sheet = Sheet()
        self._arrive = sheet.add(scene.spots, scene.there.sum(axis=1)[:, None])
        self._depart = sheet.add(scene.there > 0, scene.there)
        as_many_arrive(sheet, self._arrive, self._depart)
        room(sheet, scene, self._arrive, scene.there)
        self.moves = self._arrive[self._arrive != NOBODY]
        sheet.put(sheet.rows(1, most=most_moves), self.moves, 1)
        # Small numbers are easier to solve; but where places want less than one VM more or less, that counts, too.
        apart = [bound - levels.held for bound in (levels.low, levels.high, levels.aim)]
        unit = max(int(np.gcd.reduce(np.concatenate([scene.sizes[:, 0], *apart]))), 1)
        sizes = (scene.sizes[:, 0] // unit)[:, None]
        most = (levels.held.sum() + levels.high.max(initial=0)) // unit + 1
        everywhere = np.ones(len(levels.held), bool)
        over, under, self.off = (sheet.add(everywhere, most) for _ in range(3))
        for bound, slack in ((levels.high, over), (levels.aim, self.off)):
            rows = sheet.rows(len(over), most=(bound - levels.held) // unit)
            self._change(rows, sizes)
            sheet.put(rows, slack, -1)
        for bound, slack in ((levels.low, under), (levels.aim, self.off)):
            rows = sheet.rows(len(over), least=-((levels.held - bound) // unit))
            self._change(rows, sizes)
            sheet.put(rows, slack, 1)
        self.out = np.concatenate([over, under])

    def solve(self, least: Ints) -> Levelled | None:
        """Make the sum of some quantities least."""
        cost = np.zeros(self._sheet.quantities, np.int64)
        cost[least] = 1
        asked = Rounds(program=self._sheet.program(cost), arrive=[self._arrive], depart=[self._depart])
        found = solve(asked.program)
        return None if found.values is None else Levelled(asked=asked, values=found.values, proven=found.proven)

    def at_most(self, quantities: Ints, found: Ints) -> None:
        """Have the sum of some quantities stay what it is, or less."""
        self._sheet.put(self._sheet.rows(1, most=int(found[quantities].sum())), quantities, 1)

    def _change(self, rows: Ints, sizes: Ints) -> None:
        self._sheet.put(rows[None, :], self._arrive[:, 1:], sizes)
        self._sheet.put(rows[None, :], self._depart[:, 1:], -sizes)
