"""Asks the solver who leaves."""

from __future__ import annotations

from serai.migration.plan.program import Ints
from serai.migration.plan.rounds import Rounds, Scene, evacuation
from serai.migration.plan.solver import solve

Found = tuple[Rounds, Ints]
"""What was asked, and the quantities."""


def best(scene: Scene, rounds: int, *, most: int, more_than: int = 0) -> Found | None:
    """Find out who leaves, and who makes room for them, with few moves.

    Args:
        scene: what is looked at.
        rounds: so many at the most.
        most: more cannot leave, for all that is known.
        more_than: so many can leave otherwise.

    Returns:
        None: not more than so many can leave, or it was not found.
    """
    found = _fewest(scene, rounds, most)
    if found is not None:
        return found
    asked = evacuation(scene, rounds, at_least=None)
    values = solve(asked.program).values
    if values is None or (count := -int(asked.program.cost @ values)) <= more_than:
        return None
    return _fewest(scene, rounds, count) or (asked, values)


def _fewest(scene: Scene, rounds: int, at_least: int) -> Found | None:
    asked = evacuation(scene, rounds, at_least=at_least)
    values = solve(asked.program).values
    return None if values is None else (asked, values)
