"""Refusals go into the audit log, but a flood of them cannot fill the disk."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final, Protocol

from serai.access.decide import Caller, Refused, Subject
from serai.access.verbs import Verb
from serai.controller.errors import ForbiddenError
from serai.controller.peoplestore import Entry

_SECONDS: Final = 60
_MOST_NAMED: Final = 1000
"""So many are counted by name."""
_MOST_TOLD: Final = 20
_OTHERS: Final = "others"


class Records(Protocol):
    """The audit log, as far as it is needed here."""

    async def record(self, entry: Entry, now: datetime) -> None:
        """Record an act that changes nothing else."""
        ...


class Refusals:
    """Records each refusal, up to some a minute; the rest is counted, and the count is recorded once."""

    def __init__(self, records: Records, *, each: int = 20, most: int = 200) -> None:
        """Record ``each`` a minute of everybody, and ``most`` in all."""
        self._records = records
        self._each = each
        self._most = most
        self._began: datetime | None = None
        self._told = Counter[str]()
        self._untold = Counter[str]()

    async def tell(self, entry: Entry, source: str, now: datetime) -> None:
        """Record a refusal, or count it. ``source``: whose it is."""
        await self.flush(now)
        if self._began is None:
            self._began = now
        name = source if source in self._told or len(self._told) < _MOST_NAMED else _OTHERS
        if self._told[name] >= self._each or self._told.total() >= self._most:
            self._untold[source if source in self._untold or len(self._untold) < _MOST_NAMED else _OTHERS] += 1
            return
        self._told[name] += 1
        await self._records.record(entry, now)

    async def refuse(
        self, who: Caller, verb: Verb, what: Subject, decision: Refused, now: datetime, *, about: str = ""
    ) -> ForbiddenError:  # fmt: skip
        """Record that something was refused, and return what to raise."""
        entry = Entry(
            who=who.name, verb=verb, object=about or what.kind or "", scope=what.scope, outcome="refused",
            detail={"why": decision.why, "token": who.token},
        )  # fmt: skip
        await self.tell(entry, who.name, now)
        return ForbiddenError(decision.why)

    async def flush(self, now: datetime, *, force: bool = False) -> None:
        """Record what was only counted, when its minute is over; with ``force``, before it is."""
        if self._began is None or (not force and 0 <= (now - self._began).total_seconds() < _SECONDS):
            return
        began, untold = self._began, self._untold
        self._began, self._told, self._untold = None, Counter(), Counter()
        if not untold:
            return
        detail = {"count": untold.total(), "since": began.isoformat(), "by": dict(untold.most_common(_MOST_TOLD))}
        entry = Entry(
            who="serai", verb="count-refusals", object="refusals", scope="/", outcome="refused", detail=detail
        )
        await self._records.record(entry, now)
