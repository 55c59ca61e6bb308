"""Conversations that last: connections of pools, replication, streams; told of while they live, for minutes up to a day.

Nothing is kept from one interval to the next: where each conversation is in its life follows from the time.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.flowtraffic.talks import ANSWERED, OPEN, SLOT_MS, Habits, Talks
from serai.model.flow_record import Event

Array = NDArray[Any]

_LONGEST: Final = 8640
_ACROSS: Final = 0.15
"""Of them, with somebody outside."""
_MIX: Final = np.uint32(0x9E3779B1)
_FIRST_PORT, _PORTS = np.uint32(32768), np.uint32(28232)
_BUSY: Final = 0.5
"""Of its intervals, those in which one has packets, on average."""


class Running:
    """So many of them at any time: when one is over, its ends open the next."""

    def __init__(self, habits: Habits, count: int, rng: np.random.Generator) -> None:
        """Draw them."""
        across = int(count * _ACROSS)
        self._of = [habits.inside(count - across, 1, rng, denied=0), habits.across(across, 1, rng, denied=0)]
        self._period = (2 + np.exp(rng.normal(3.2, 1.6, count))).clip(2, _LONGEST).astype("<u4")
        self._offset = rng.integers(0, _LONGEST, count, dtype="<u4")
        self._busy = rng.random(count, "f4") * 2 * _BUSY
        self._scale = np.exp(rng.normal(1, 1.5, count)).astype("f4")

    def __len__(self) -> int:
        return len(self._period)

    def told(self, first: int, slots: int, activity: float, rng: np.random.Generator) -> Talks:
        """Return what is to be told of them in ``slots`` intervals from ``first`` on; ``activity`` is 1 on average."""
        number = np.arange(first, first + slots, dtype="<u4")[:, np.newaxis] + self._offset
        life, since = np.divmod(number, self._period)
        begins, ends = since == 0, since == self._period - np.uint32(1)
        tell = begins | ends | (rng.random(number.shape, "f4") < self._busy * np.float32(activity))
        slot, which = np.nonzero(tell)
        at = slot * len(self) + which
        life, since, begins, ends = (each.reshape(-1)[at] for each in (life, since, begins, ends))
        of = self._columns()
        count = len(at)
        return Talks(
            slot=slot.astype("<u2"),
            port=(_FIRST_PORT + (life + which.astype("<u4")) * _MIX % _PORTS).astype("<u2"),
            event=begins * np.uint8(Event.BEGINS) | ends * np.uint8(Event.ENDS),
            age=since * np.uint32(SLOT_MS) + rng.integers(1, SLOT_MS, count, dtype="<u4"),
            idle=np.zeros(count, "<u4"), fate=np.full(count, ANSWERED, "u1"), denied=np.full(count, OPEN, "u1"), reason=np.zeros(count, "u1"),
            scale=self._scale[which], **{name: column[which] for name, column in of.items()},
        )  # fmt: skip

    def _columns(self) -> dict[str, Array]:
        return {
            name: np.concatenate([getattr(part, name) for part in self._of])
            for name in ("opener", "target", "protocol", "service", "place")
        }
