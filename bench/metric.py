"""One measured number."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number, what it should be, and where it stands."""

    name: str
    value: float | None
    """None: it could not be measured; ``missing`` says why."""
    unit: str
    goal: float | None = None
    """At the most; None where nothing is promised yet."""
    least: bool = False
    """The goal is what it should be at the least."""
    missing: str = ""
    """What this machine lacks."""

    @property
    def ok(self) -> bool:
        """Whether the promise is kept; a promise that could not be looked at is not."""
        if self.goal is None or self.value is None:
            return self.goal is None
        return self.value >= self.goal if self.least else self.value <= self.goal

    def fields(self) -> dict[str, object]:
        """For a program."""
        value = None if self.value is None else round(self.value, 4)
        told = {"missing": self.missing} if self.missing else {}
        return {"value": value, "unit": self.unit, "goal": self.goal, "ok": self.ok, **told}

    def row(self) -> tuple[str, str, str, str, str]:
        """For a person: name, value, unit, goal, and whether it is kept."""
        value = "-" if self.value is None else f"{self.value:.3g}"
        goal = "-" if self.goal is None else f"{'>=' if self.least else '<='} {self.goal:g}"
        return self.name, value, self.unit, goal, self.missing or ("ok" if self.ok else "MISSED")
