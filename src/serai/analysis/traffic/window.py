"""The time that a question is about, and which table answers it: the coarsest whose steps fit into it often enough."""

from __future__ import annotations

import dataclasses
from typing import Final, Self

from serai.analysis.traffic.statement import Clause

STEP_SECONDS: Final = {"10s": 10, "1m": 60, "1h": 3600}
_STEPS: Final = (10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
_FINE: Final = 2 * 3600
_MIDDLE: Final = 12 * 3600


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From ``since`` up to ``until``, seconds since 1970."""

    since: int
    until: int

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.until - self.since

    @property
    def grain(self) -> str:
        """Which rollup has steps that are fine enough: ``10s``, ``1m`` or ``1h``."""
        if self.seconds <= _FINE:
            return "10s"
        return "1m" if self.seconds <= _MIDDLE else "1h"

    @property
    def pair_grain(self) -> str:
        """The same of what is kept by pairs."""
        return "1m" if self.seconds <= _MIDDLE else "1h"

    def widened(self, grain: str) -> Self:
        """Return the whole steps of a rollup that this one touches."""
        step = STEP_SECONDS[grain]
        return dataclasses.replace(self, since=self.since // step * step, until=-(-self.until // step) * step)

    def clause(self, column: str) -> Clause:
        """Return the condition that the beginning of a step is inside."""
        sql = f"{column} >= toDateTime({{since:UInt32}}) AND {column} < toDateTime({{until:UInt32}})"
        return Clause(sql=sql, parameters={"since": self.since, "until": self.until})

    def told(self, column: str) -> Clause:
        """Return the condition that the end of a record's interval is inside."""
        sql = f"{column} > toDateTime({{since:UInt32}}) AND {column} <= toDateTime({{until:UInt32}})"
        return Clause(sql=sql, parameters={"since": self.since, "until": self.until})

    def step(self, steps: int) -> int:
        """Return how long a step is of which there are about so many, in seconds."""
        wanted = self.seconds / max(1, steps)
        return next((step for step in _STEPS if step >= wanted), _STEPS[-1])
