"""What pairs of measurements say about a filter."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping


def median_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of what an operation costs with a filter, relative to what it cost without just before."""
    return statistics.median(with_ / without for without, with_ in pairs)


def columns_not_first(gate: Mapping[str, float], peers: Iterable[Mapping[str, float]]) -> int:
    """In how many columns some peer is cheaper than the gate; all have the same columns."""
    others = list(peers)
    return sum(any(peer[column] < cost for peer in others) for column, cost in gate.items())
