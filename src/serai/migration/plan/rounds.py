"""The program that finds moves: how many VMs of each kind leave each host, and arrive at it, in each round.

Whoever arrives in a round has room while all who leave in it are still there. So the moves of a round need no order, and any
sequence of moves is one of rounds: there is a plan if and only if there is one of enough rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from serai.migration.plan.program import NOBODY, Bools, Ints, Program, Sheet


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Kinds of VMs (rows) and places (columns) that are looked at. VMs that are not stay where they are."""

    sizes: Ints
    """What one VM of each kind needs of each thing that places have room for."""
    there: Ints
    """How many VMs of each kind each place has."""
    spots: Bools
    """Where each kind may arrive."""
    leaving: Bools
    """Places that shall become empty."""
    free: Ints
    """What each place has room for, less what those need that stay. Less than nothing: it holds too much."""
    cost: Ints
    """Of a move of each kind."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounds:
    """A program, and where in it stands who moves."""

    program: Program
    arrive: Sequence[Ints]
    """Of each round: the quantity of each kind and place, or NOBODY."""
    depart: Sequence[Ints]


def evacuation(scene: Scene, rounds: int, *, at_least: int | None) -> Rounds:
    """Have as many VMs as possible leave; with ``at_least``, so many, at the least cost."""
    sheet = Sheet()
    arrive, depart, stay = _quantities(sheet, scene, rounds)
    for at in range(rounds):
        as_many_arrive(sheet, arrive[at], depart[at])
        if at:
            _carry(sheet, scene, stay[at - 1 : at + 1], arrive[at - 1], depart[at - 1])
            _only_who_is_there(sheet, stay[at], depart[at])
        room(sheet, scene, arrive[at], stay[at])
    gone = np.concatenate([each[:, scene.leaving].ravel() for each in depart])
    gone = gone[gone != NOBODY]
    cost = np.zeros(sheet.quantities, np.int64)
    if at_least is None:
        cost[gone] = -1
    else:
        sheet.put(sheet.rows(1, least=at_least), gone, 1)
        for each in arrive:
            cost[each[each != NOBODY]] = np.broadcast_to(scene.cost[:, None], each.shape)[each != NOBODY]
    return Rounds(program=sheet.program(cost), arrive=arrive, depart=depart)


def _quantities(sheet: Sheet, scene: Scene, rounds: int) -> tuple[list[Ints], list[Ints], list[Ints]]:
    """Add who arrives, who departs, and, but for the first round, who is there when it begins."""
    arrive, depart, stay = [], [], []
    everybody = scene.there.sum(axis=1)[:, None]
    leaves = (scene.there[:, scene.leaving].sum(axis=1) > 0)[:, None]
    for at in range(rounds):
        there = (scene.there > 0) | scene.spots if at else scene.there > 0
        last = at == rounds - 1  # makes room for nobody: only those move who shall
        stay.append(sheet.add(there, everybody) if at else scene.there)
        arrive.append(sheet.add(scene.spots & leaves if last else scene.spots, everybody))
        depart.append(sheet.add(there & scene.leaving if last else there, everybody if at else scene.there))
    return arrive, depart, stay


def as_many_arrive(sheet: Sheet, arrive: Ints, depart: Ints) -> None:
    """Have as many VMs of a kind arrive somewhere as depart elsewhere."""
    rows = sheet.rows(len(arrive), least=0, most=0)[:, None]
    sheet.put(rows, arrive, 1)
    sheet.put(rows, depart, -1)


def _carry(sheet: Sheet, scene: Scene, stay: Sequence[Ints], arrive: Ints, depart: Ints) -> None:
    """Who is there when a round begins: who was there before, and has come, and has not gone."""
    before, now = stay
    there = now != NOBODY
    first = before is scene.there
    known = scene.there[there] if first else 0
    rows = sheet.rows(int(there.sum()), least=known, most=known)
    sheet.put(rows, now[there], 1)
    if not first:
        sheet.put(rows, before[there], -1)
    sheet.put(rows, arrive[there], -1)
    sheet.put(rows, depart[there], 1)


def _only_who_is_there(sheet: Sheet, stay: Ints, depart: Ints) -> None:
    goes = depart != NOBODY
    rows = sheet.rows(int(goes.sum()), least=0)
    sheet.put(rows, stay[goes], 1)
    sheet.put(rows, depart[goes], -1)


def room(sheet: Sheet, scene: Scene, arrive: Ints, stay: Ints) -> None:
    """Bound what places hold while VMs arrive; a place that holds too much takes nobody before it holds less."""
    held = scene.sizes.T @ scene.there
    counted = stay is not scene.there
    for need, free in enumerate(scene.free.T):
        kinds = np.flatnonzero(scene.sizes[:, need])
        places = np.flatnonzero((arrive[kinds] != NOBODY).any(axis=0))
        comes = arrive[np.ix_(kinds, places)]
        sizes = scene.sizes[kinds, need][:, None]
        over = np.maximum(held[need, places] - free[places], 0)
        known = 0 if counted else held[need, places]
        rows = sheet.rows(len(places), most=free[places] + over - known)
        sheet.put(rows, comes, sizes)
        if counted:
            sheet.put(rows, stay[np.ix_(kinds, places)], sizes)
        if over.any():
            shut = np.flatnonzero(over)
            opens = sheet.add(over > 0, 1)[shut]
            sheet.put(rows[shut], opens, over[shut])
            nobody = sheet.rows(len(shut), most=0)
            sheet.put(nobody, comes[:, shut], 1)
            sheet.put(nobody, opens, -scene.there[kinds].sum())
