"""Counts attempts, so that nobody guesses for long. In memory, and never more of it than was said."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from datetime import datetime


@dataclasses.dataclass(slots=True)
class _Window:
    began: datetime
    count: int


class Throttle:
    """So many attempts for each key in so many seconds."""

    def __init__(self, *, limit: int, seconds: int, most_keys: int = 10_000) -> None:
        """Count up to ``limit``; of more than ``most_keys``, those that began first are forgotten."""
        self._limit = limit
        self._seconds = seconds
        self._most_keys = most_keys
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def take(self, key: Hashable, now: datetime) -> int | None:
        """Count an attempt; or return in how many seconds there may be one."""
        window = self._windows.get(key)
        # A clock that was set back must not keep anybody out for longer.
        if window is None or not 0 <= (now - window.began).total_seconds() < self._seconds:
            self._windows.pop(key, None)
            window = self._windows[key] = _Window(now, 0)
            if len(self._windows) > self._most_keys:
                self._windows.popitem(last=False)
        if window.count >= self._limit:
            return max(1, int(self._seconds - (now - window.began).total_seconds()))
        window.count += 1
        return None

    def give_back(self, key: Hashable) -> None:
        """Take an attempt back that was none: it succeeded."""
        window = self._windows.get(key)
        if window is not None and window.count > 0:
            window.count -= 1

    def __len__(self) -> int:
        return len(self._windows)


def neighborhood(address: str) -> str:
    """Return what of a caller's address to count by: whoever has an IPv6 address usually has a /64 of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((parsed, 64), strict=False))
        return str(parsed.ipv4_mapped)
    return str(parsed)
