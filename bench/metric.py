"""One measured number."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number, what it should be at the most, and where it stands."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    """At the most; None where nothing is promised yet."""

    @property
    def ok(self) -> bool:
        """Whether the promise is kept."""
        return self.goal is None or self.value <= self.goal

    def fields(self) -> dict[str, object]:
        """For a program."""
        return {"value": round(self.value, 4), "unit": self.unit, "goal": self.goal, "ok": self.ok}
