"""How often somebody may ask: a bucket each that fills steadily."""

from __future__ import annotations

from collections import OrderedDict


class Rates:
    """Buckets of many people. The one that was not used for longest is forgotten when there are too many.

    A forgotten bucket is full again: an attacker who wins by that has as many addresses as there are buckets.
    """

    def __init__(self, *, per_second: float, burst: float, most: int = 10_000) -> None:
        """Begin with full buckets, of which ``most`` are remembered."""
        self._per_second, self._burst, self._most = per_second, burst, most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> float:
        """Take one from somebody's bucket; return for how many seconds they have to wait, 0 if not at all."""
        left, at = self._buckets.pop(name, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        allowed = left >= 1
        self._buckets[name] = (left - 1 if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second
