"""Goes through a span of time and yields what all gates of a data center tell in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.flowtraffic.answers import Answers
from bench.flowtraffic.incidents import incidents
from bench.flowtraffic.population import Population
from bench.flowtraffic.rows import SLOT_SECONDS, Gates
from bench.flowtraffic.running import Running
from bench.flowtraffic.talks import Habits, Talks, joined

Array = NDArray[Any]

ROWS: Final = 200_000
"""Of a table: as many as a controller inserts at once."""
SLOTS_AN_HOUR: Final = 3600 // SLOT_SECONDS
_RUNNING: Final = 0.45
"""Conversations that last, for each record of an interval."""
_INSIDE: Final = 0.36
_DENIED_INSIDE, _DENIED_ACROSS = 0.07, 0.1


def records(
    population: Population,
    start: int,
    end: int,
    count: int,
    rng: np.random.Generator,
    *,
    answers: Answers | None = None,
) -> Iterator[pa.Table]:
    """Yield ``count`` flow records in order of time, in tables of ``ROWS``, as the flow store keeps them.

    Records of one interval (10 seconds) end inside it, those of one host at the same second. More of them are told by day than by night.

    Args:
        population: who speaks.
        start: seconds since 1970, a multiple of 10, as ``end`` is.
        end: when it is over.
        count: how many records.
        rng: chance.
        answers: what is told is added to these.
    """
    gates, waiting, rows = Gates(population), [], 0
    first, last = start // SLOT_SECONDS, end // SLOT_SECONDS
    habits = Habits(population)
    running = Running(habits, int(count / (last - first) * _RUNNING), rng)
    strange = list(incidents(population, first, last, rng))
    for begin, until, wanted, activity in _spans(first, last, count):
        slots = until - begin
        parts = [running.told(begin, slots, activity, rng)]
        parts += [found for each in strange if (found := each.told(begin, slots, wanted, rng)) is not None]
        parts = _fitting(gates, parts, wanted)
        left = wanted - sum(len(gates.sides(part)) for part in parts)
        parts.append(habits.inside(int(left * _INSIDE), slots, rng, denied=_DENIED_INSIDE))
        left -= len(gates.sides(parts[-1]))
        parts.append(habits.across(left, slots, rng, denied=_DENIED_ACROSS))
        talks = joined(parts)
        told = gates.tell(talks, gates.sides(talks), begin, rng)
        if answers is not None:
            answers.add(told, begin)
        waiting.append(told.table)
        rows += told.table.num_rows
        while rows >= ROWS:
            yield (whole := pa.concat_tables(waiting)).slice(0, ROWS)
            rows -= ROWS
            waiting = [whole.slice(ROWS)]
    if rows:
        yield pa.concat_tables(waiting)


def _fitting(gates: Gates, parts: list[Talks], wanted: int) -> list[Talks]:
    """Leave out what is more than there is to be, which happens where hardly anything is to be told."""
    while sum(len(gates.sides(part)) for part in parts) > wanted:
        parts = [part.head(len(part) // 2) for part in parts]
    return parts


def _spans(first: int, last: int, count: int) -> Iterator[tuple[int, int, int, float]]:
    """Cut the time into spans with some ``ROWS`` records each, none across an hour: where from, where to, how many records, how busy (1: as usual)."""
    busy = _busy(np.arange(first, last))
    told = np.append(0, np.round(np.cumsum(busy) / busy.sum() * count)).astype("i8")
    begin = first
    while begin < last:
        hour = min((begin // SLOTS_AN_HOUR + 1) * SLOTS_AN_HOUR, last)
        most = first + int(np.searchsorted(told, told[begin - first] + ROWS, side="right")) - 1
        until = max(begin + 1, min(hour, most))
        yield (
            begin,
            until,
            int(told[until - first] - told[begin - first]),
            float(busy[begin - first : until - first].mean() / busy.mean()),
        )
        begin = until


def _busy(slots: Array) -> Array:
    """How busy a data center is at these intervals: nights, mornings, lunch, afternoons, and what runs at two o'clock."""
    hour = slots % (24 * SLOTS_AN_HOUR) / SLOTS_AN_HOUR
    day = 0.5 - 0.5 * np.cos((hour - 3.5) / 24 * 2 * np.pi)
    lunch, nightly = np.exp(-(((hour - 12.5) / 0.6) ** 2)), np.exp(-(((hour - 2) / 0.4) ** 2))
    found: Array = 0.25 + day**1.5 - 0.25 * lunch + 0.3 * nightly
    return found
