"""The one place that knows the solver, HiGHS (docs/adr/0021-planner.md). The same program has the same answer."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import highspy
import numpy as np

from serai.migration.plan.program import NO_BOUND, Ints, Program

_NODES: Final = 200
"""After so many branches the best that was found has to do."""
_SECONDS: Final = 20.0
"""The brake, for a program of which one branch takes for ever. What is found then may differ from time to time."""
_OPTIONS: Final = {
    "output_flag": False, "threads": 1, "mip_max_nodes": _NODES, "time_limit": _SECONDS, "mip_rel_gap": 0.0, "mip_abs_gap": 0.99,
}  # fmt: skip
_ENDED: Final = frozenset({highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible})
_ALMOST: Final = 1e-4
"""The solver calculates with fractions; costs are whole."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What was found."""

    values: Ints | None
    """None: nothing was."""
    bound: float
    """No solution costs less; infinite: there is none."""
    proven: bool
    """It is the best, or there is none."""


def solve(program: Program) -> Solution:
    """Find the best solution. What is found has been checked against the program, in whole numbers."""
    solver = highspy.Highs()
    for name, value in _OPTIONS.items():
        solver.setOptionValue(name, value)
    quantities = len(program.cost)
    solver.passModel(
        quantities, len(program.least), len(program.index), int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize),
        0.0, program.cost.astype(float), np.zeros(quantities), program.upper.astype(float), _bounds(program.least),
        _bounds(program.most), program.start.astype(np.int32), program.index.astype(np.int32), program.factor.astype(float),
        np.full(quantities, int(highspy.HighsVarType.kInteger), np.int32),
    )  # fmt: skip
    solver.run()
    info, ended = solver.getInfo(), solver.getModelStatus() in _ENDED
    values = None
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        values = np.rint(np.array(solver.getSolution().col_value)).astype(np.int64)
        if not _holds(program, values):
            return Solution(values=None, bound=-math.inf, proven=False)
    if ended:
        bound = math.inf if values is None else float(program.cost @ values)
    else:
        bound = math.ceil(info.mip_dual_bound - _ALMOST) if math.isfinite(info.mip_dual_bound) else -math.inf
    return Solution(values=values, bound=bound, proven=ended)


def _bounds(rows: Ints) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.where(rows >= NO_BOUND, highspy.kHighsInf, np.where(rows <= -NO_BOUND, -highspy.kHighsInf, rows))


def _holds(program: Program, values: Ints) -> bool:
    """Say whether whole numbers are a solution."""
    row = np.repeat(np.arange(len(program.least)), np.diff(program.start))
    sums = np.zeros(len(program.least), np.int64)
    np.add.at(sums, row, program.factor * values[program.index])
    within = (program.least <= sums) & (sums <= program.most)
    return bool(within.all() and (values >= 0).all() and (values <= program.upper).all())
