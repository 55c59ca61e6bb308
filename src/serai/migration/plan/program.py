"""Integer programs, as columns of numbers: quantities with bounds, and rows that bound sums of them."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_BOUND: Final = 1 << 45
"""Of a row that is bounded on one side only. So much, or more, is more than anything that is counted."""

NOBODY: Final = -1
"""In place of a quantity: there is none, it is 0."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """Find whole numbers within bounds for which ``cost`` is least."""

    cost: Ints
    upper: Ints
    """Of each quantity; the lower bound is 0."""
    start: Ints
    """Where each row begins in ``index`` and ``factor``, and where the last one ends."""
    index: Ints
    factor: Ints
    least: Ints
    """Of each row; the same of ``most``."""
    most: Ints


class Sheet:
    """A program that is being written."""

    def __init__(self) -> None:
        self._upper: list[Ints] = []
        self._least: list[Ints] = []
        self._most: list[Ints] = []
        self._terms: list[tuple[Ints, Ints, Ints]] = []
        self._quantities = 0
        self._rows = 0

    @property
    def quantities(self) -> int:
        """How many there are."""
        return self._quantities

    def add(self, where: Bools, upper: ArrayLike) -> Ints:
        """Add a quantity for each place of a table, and return the table of their numbers; NOBODY elsewhere."""
        count = int(where.sum())
        found = np.full(where.shape, NOBODY, np.int64)
        found[where] = np.arange(self._quantities, self._quantities + count)
        self._quantities += count
        self._upper.append(np.broadcast_to(np.asarray(upper, np.int64), where.shape)[where])
        return found

    def rows(self, count: int, *, least: ArrayLike = -NO_BOUND, most: ArrayLike = NO_BOUND) -> Ints:
        """Add rows, and return their numbers."""
        found = np.arange(self._rows, self._rows + count)
        self._rows += count
        self._least.append(np.broadcast_to(np.asarray(least, np.int64), (count,)))
        self._most.append(np.broadcast_to(np.asarray(most, np.int64), (count,)))
        return found

    def put(self, rows: Ints, quantities: Ints, factors: ArrayLike) -> None:
        """Add quantities to rows, each times a factor. What is NOBODY is left out; no quantity comes twice into a row."""
        row, quantity, factor = np.broadcast_arrays(rows, quantities, np.asarray(factors, np.int64))
        there = (quantity != NOBODY) & (factor != 0)
        self._terms.append((row[there], quantity[there], factor[there]))

    def program(self, cost: Ints) -> Program:
        """Return what was written."""
        row, quantity, factor = (np.concatenate([terms[at] for terms in self._terms]) for at in range(3))
        order = np.argsort(row, kind="stable")
        return Program(
            cost=cost,
            upper=np.concatenate(self._upper),
            start=np.searchsorted(row[order], np.arange(self._rows + 1)),
            index=quantity[order],
            factor=factor[order],
            least=np.concatenate(self._least),
            most=np.concatenate(self._most),
        )
