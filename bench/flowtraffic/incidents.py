"""What happens seldom: somebody scans, and somebody is flooded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.flowtraffic.books import DENIES
from bench.flowtraffic.population import Population
from bench.flowtraffic.talks import BY_TARGET, OPEN, REFUSED, SLOT_MS, UNANSWERED, Talks
from serai.model.flow_record import Event
from serai.model.ports import TCP
from serai.model.reasons import Reason

Array = NDArray[Any]

_SCAN_TARGETS: Final = 4000
_LET_THROUGH: Final = 0.3
"""Of what a scan tries, what no rule denies; there is nobody at that port."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incident:
    """SYNs of somebody to somebody, for a while."""

    name: str
    openers: Array
    targets: Array
    ports: Array
    """Services that are tried."""
    begins: int
    """The interval, as ``ends``, which is no more."""
    ends: int
    share: float
    """Of the records of that time, about."""
    let_through: float

    def told(self, first: int, slots: int, records: int, rng: np.random.Generator) -> Talks | None:
        """Return what of it falls into ``slots`` intervals from ``first`` on, of which there are to be so many ``records``; None: nothing."""
        begins, ends = max(self.begins, first) - first, min(self.ends, first + slots) - first
        count = int(records * self.share * (ends - begins) / slots / 2)
        if begins >= ends or not count:
            return None
        through = rng.random(count) < self.let_through
        age = rng.integers(1, SLOT_MS, count, dtype="<u4")
        return Talks(
            slot=rng.integers(begins, ends, count, dtype="<u2"),
            opener=self.openers[rng.integers(0, len(self.openers), count)], target=self.targets[rng.integers(0, len(self.targets), count)],
            protocol=np.full(count, TCP, "u1"), service=self.ports[rng.integers(0, len(self.ports), count)],
            port=rng.integers(1024, 65535, count, dtype="<u2"), place=np.where(through, np.uint8(0), np.uint8(DENIES)),
            event=np.full(count, Event.BEGINS | Event.ENDS, "u1"), age=age, idle=age,
            fate=np.where(through & (rng.random(count) < 0.7), np.uint8(REFUSED), np.uint8(UNANSWERED)),  # noqa: PLR2004
            denied=np.where(through, np.uint8(OPEN), np.uint8(BY_TARGET)), reason=np.where(through, np.uint8(0), np.uint8(Reason.DENIED)),
            scale=np.full(count, 0.1, "f4"),
        )  # fmt: skip


def incidents(population: Population, begins: int, ends: int, rng: np.random.Generator) -> Iterator[Incident]:
    """Plan what happens between two intervals: scans from inside and outside, and one flood."""
    outside = np.arange(population.outside.start, population.outside.stop, dtype="<i4")
    cards = np.arange(population.all_cards, dtype="<i4")
    vm, tenant = population.ends.vm[cards], population.ends.tenant[cards]
    mapped = outside[~population.ends.ipv6[outside]]
    every_port = np.arange(1, 65536, dtype="<u2")
    length = ends - begins
    for number, at in enumerate((0.11, 0.36, 0.58, 0.86)):
        start = begins + int(length * at)
        inner = number % 2 == 0
        opener = rng.choice(cards if inner else mapped, 1)
        if inner:
            targets = cards[(tenant == tenant[opener]) & (vm != vm[opener])]
        else:
            targets = rng.choice(cards, min(_SCAN_TARGETS, len(cards)), replace=False)
        if len(targets):
            yield Incident(
                name="scan", openers=opener, targets=targets, ports=every_port if inner else np.array([22, 3389, 445], "<u2"),
                begins=start, ends=start + max(1, length // 60), share=0.05, let_through=_LET_THROUGH,
            )  # fmt: skip
    start = begins + int(length * 0.7)
    yield Incident(
        name="flood", openers=rng.choice(mapped, len(mapped) // 4), targets=rng.choice(cards, 1), ports=np.array([443], "<u2"),
        begins=start, ends=start + max(1, length // 250), share=0.8, let_through=0.9,
    )  # fmt: skip
