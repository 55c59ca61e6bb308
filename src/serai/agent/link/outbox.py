"""Which batches of records are on their way: in their order, and few at a time, so that nothing else waits long behind them."""

from __future__ import annotations

import collections
from typing import Final

from serai.agent.link.events import Command, ForgetBatches, ReadBatch, Send
from serai.wire.remote import Records, Taken

UNANSWERED: Final = 4
"""Batches that are sent before the first of them is answered, at the most."""
UNANSWERED_BYTES: Final = 256 * 1024
"""No other is sent while those on their way have so many: a slow line carries answers about rulesets, too."""


class Outbox:
    """What one conversation has sent of the batches that there are."""

    def __init__(self) -> None:
        """Know of none."""
        self._any = False
        self._reading = False
        self._last: tuple[str, int] | None = None
        self._unanswered: collections.deque[tuple[str, int, int]] = collections.deque()

    def begin(self) -> list[Command]:
        """Start with the oldest: what was sent in another conversation may not have come."""
        self._reading, self._last = False, None
        self._unanswered.clear()
        return self._next()

    def ready(self, *, talking: bool) -> list[Command]:
        """Know that there are batches, or others."""
        self._any = True
        return self._next() if talking else []

    def read(self, batch: Records | None) -> list[Command]:
        """Send the batch that was asked for; None: there was none."""
        self._reading = False
        if batch is None:
            self._any = False
            return []
        self._last = batch.spool, batch.number
        size = len(batch.flows) + len(batch.drops) + len(batch.sightings)
        self._unanswered.append((batch.spool, batch.number, size))
        return [Send(message=batch), *self._next()]

    def taken(self, taken: Taken) -> list[Command]:
        """Know that a controller keeps these: they, and what was before them, need not be kept here."""
        self._unanswered = collections.deque(
            sent for sent in self._unanswered if sent[0] != taken.spool or sent[1] > taken.number
        )
        if taken.again:
            self._last = taken.spool, taken.number
            self._unanswered.clear()
            self._any = True
        return [ForgetBatches(spool=taken.spool, number=taken.number), *self._next()]

    def _next(self) -> list[Command]:
        full = len(self._unanswered) >= UNANSWERED or sum(size for *_, size in self._unanswered) >= UNANSWERED_BYTES
        if self._reading or full or not self._any:
            return []
        self._reading = True
        return [ReadBatch(after=self._last)]
