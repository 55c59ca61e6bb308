"""When hosts are so unequally full that a pool is to be rebalanced: not at once, and not again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from serai.migration.plan.asked import PlanHost


class ThresholdError(ValueError):
    """These thresholds make no sense; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What is too much, and for how long."""

    spread: float = 0.2
    """How much fuller the fullest host may be than the emptiest, as a share of their memory."""
    fullest: float = 0.9
    """How full a host may be, as long as another is less full by ``spread`` / 2."""
    lasting_seconds: float = 600.0
    """It must have been so for that long."""
    pause_seconds: float = 3600.0
    """So long nothing is triggered after the last time."""

    def __post_init__(self) -> None:
        """Check that they can be."""
        if not (0 < self.spread < 1 and 0 < self.fullest <= 1):
            raise ThresholdError("spread and fullest are shares of memory: between 0 and 1, 0.2 and 0.9 say")
        if min(self.lasting_seconds, self.pause_seconds) < 0:
            raise ThresholdError("times are 0 seconds or more")


class Trigger:
    """Watches one pool."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._since: float | None = None
        self._last: float | None = None

    def look(self, fullness: Collection[float], now: float) -> str:
        """Say why the pool is to be rebalanced now; empty: it is not.

        Args:
            fullness: of each host that admits VMs, the share of its memory that VMs have.
            now: in seconds, from anywhere.
        """
        why = self._too_much(fullness)
        if not why:
            self._since = None
            return ""
        if self._since is None:
            self._since = now
        paused = self._last is not None and now - self._last < self._thresholds.pause_seconds
        if paused or now - self._since < self._thresholds.lasting_seconds:
            return ""
        self._since, self._last = None, now
        return why

    def _too_much(self, fullness: Collection[float]) -> str:
        most, least = max(fullness, default=0.0), min(fullness, default=0.0)
        if most - least > self._thresholds.spread:
            return f"the fullest host is {most:.0%} full, and the emptiest {least:.0%}"
        if most > self._thresholds.fullest and most - least > self._thresholds.spread / 2:
            return f"a host is {most:.0%} full, and another {least:.0%}"
        return ""


def fullness(host: PlanHost, memory_mib: int) -> float:
    """Return what share of its memory a host has given away."""
    return memory_mib / host.memory_mib if host.memory_mib else 1.0
