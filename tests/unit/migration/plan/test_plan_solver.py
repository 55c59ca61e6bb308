"""The solver is asked in whole numbers, and keeps quiet."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.migration.plan.program import NO_BOUND, NOBODY, Program, Sheet
from serai.migration.plan.solver import solve

rows = st.tuples(
    st.lists(st.integers(-4, 4), min_size=3, max_size=3), st.integers(-6, 6) | st.just(-NO_BOUND), st.integers(0, 9)
)


def program(uppers: list[int], cost: list[int], told: list[tuple[list[int], int, int]]) -> Program:
    sheet = Sheet()
    numbers = sheet.add(np.ones(3, bool), uppers)
    for factors, least, width in told:
        most = NO_BOUND if least == -NO_BOUND and width > 4 else max(least, -9) + width
        sheet.put(sheet.rows(1, least=least, most=most), numbers, factors)
    return sheet.program(np.array(cost))


@given(
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
    st.lists(st.integers(-3, 3), min_size=3, max_size=3),
    st.lists(rows, min_size=1, max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_it_finds_the_best_of_all(uppers: list[int], cost: list[int], told: list[tuple[list[int], int, int]]) -> None:
    asked = program(uppers, cost, told)
    table = np.zeros((len(told), 3), np.int64)
    for row in range(len(told)):
        at = slice(asked.start[row], asked.start[row + 1])
        table[row, asked.index[at]] = asked.factor[at]
    costs = [
        int(asked.cost @ values)
        for values in product(*(range(upper + 1) for upper in uppers))
        if ((asked.least <= table @ values) & (table @ values <= asked.most)).all()
    ]
    found = solve(asked)
    assert found.proven
    assert found.bound == min(costs, default=math.inf)
    assert (found.values is None) == (not costs)
    if found.values is not None:
        assert asked.cost @ found.values == min(costs)


def test_places_without_a_quantity_count_nothing() -> None:
    sheet = Sheet()
    table = sheet.add(np.array([[True, False], [False, True]]), 5)
    assert table.tolist() == [[0, NOBODY], [NOBODY, 1]]
    sheet.put(sheet.rows(2, least=[3, 4])[:, None], table, 1)
    assert solve(sheet.program(np.array([1, 1]))).values == pytest.approx([3, 4])


def test_it_writes_nothing() -> None:
    code = (
        "import numpy as np\n"
        "from serai.migration.plan.program import Sheet\n"
        "from serai.migration.plan.solver import solve\n"
        "sheet = Sheet()\n"
        "sheet.put(sheet.rows(1, least=7), sheet.add(np.ones(2, bool), 9), [2, 3])\n"
        "assert solve(sheet.program(np.array([1, 1]))).bound == 3\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert (ran.stdout, ran.stderr) == ("", "")
