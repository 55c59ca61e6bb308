"""Times as people write them: ``7d``, ``yesterday 14:00``, ``2026-11-24T14:00:00Z``. The time of asking comes in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

LONGEST: Final = 60
"""Characters of a time."""
AHEAD: Final = timedelta(minutes=1)
"""How far a window may reach into the future: clocks differ a little."""
FORMS: Final = (
    "now", "90s", "2h ago", "1d12h", "14:00", "today", "yesterday 14:00", "monday", "last week", "2026-11-24", "2026-11-24 14:00",
    "2026-11-24T14:00:00Z",
)  # fmt: skip
"""Examples of all that may be written."""

_UNITS = {
    "s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SPAN = re.compile(r"((?:[0-9]{1,9}[smhdw] ?)+?)( ?ago)?")
_PART = re.compile(r"([0-9]+)([smhdw])")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[t ]([0-9:]+) ?(z|[+-][0-9]{2}:?[0-9]{2})?)?")


class WhenError(ValueError):
    """It is no time, or no window of time; the text says what may be written."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of which is asked: from ``since`` on, before ``until``; both in UTC."""

    since: datetime
    until: datetime


def parse_when(text: str, now: datetime) -> datetime:
    """Read a time.

    Spans (``7d``) are counted back from ``now``, a day being 24 hours. A time of day (``14:00``), a day of the week (``monday``), or both, is
    the latest such that is not in the future; days and dates without a time are their beginnings, and ``last week`` is the Monday
    before this week's. All but spans, and what names its own zone, is local time in the zone of ``now``: what the clock skipped is taken as if
    it had not been put forward, and what it showed twice is the first.

    Args:
        text: what was written, in letters of either case.
        now: in the zone of whoever asks.

    Returns:
        The time in UTC.

    Raises:
        WhenError: it is none.
    """
    words = " ".join(text.lower().split()) if len(text) <= LONGEST else ""
    try:
        for read in (_span, _date, _named):
            found = read(words, now)
            if found is not None:
                return found.astimezone(UTC)
    except (ValueError, OverflowError):  # a day that no month has, a year that no calendar has
        pass
    raise WhenError(f"{text[:LONGEST]!r} is no time: write one such as {', '.join(FORMS)}")


def parse_window(since: str, until: str, now: datetime) -> Window:
    """Read both ends of a window, and check it.

    Raises:
        WhenError: one of them is no time, or they are no window.
    """
    window = Window(since=parse_when(since, now), until=parse_when(until, now))
    check_window(window, now)
    return window


def check_window(window: Window, now: datetime) -> None:
    """Refuse a window that is empty or reaches into the future.

    Raises:
        WhenError: likewise.
    """
    for name, moment in (("since", window.since), ("until", window.until)):
        if moment > now.astimezone(UTC) + AHEAD:
            raise WhenError(f"{name} is in the future: {_shown(moment)}")
    if window.since.astimezone(UTC) >= window.until.astimezone(UTC):
        raise WhenError(
            f"nothing lies between: since ({_shown(window.since)}) is not before until ({_shown(window.until)})"
        )


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(words: str, now: datetime) -> datetime | None:
    match = _SPAN.fullmatch(words)
    if not match:
        return None
    back = sum((int(number) * _UNITS[unit] for number, unit in _PART.findall(match[1])), timedelta())
    return now.astimezone(UTC) - back


def _date(words: str, now: datetime) -> datetime | None:
    match = _DATE.fullmatch(words)
    if not match:
        return None
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    local = datetime.combine(date(year, month, day), _clock(match[4]) if match[4] else time(), tzinfo=now.tzinfo)
    if not match[5]:
        return local
    return datetime.fromisoformat(f"{local:%Y-%m-%dT%H:%M:%S}{match[5].upper()}")


def _named(words: str, now: datetime) -> datetime | None:
    """Read what is told from the day of asking."""
    if words == "now":
        return now
    today = now.date()
    if words == "last week":
        return _local(today - timedelta(days=today.weekday() + 7), time(), now)
    day, _, rest = words.partition(" ")
    if day in {"today", "yesterday"}:
        return _local(today - timedelta(days=int(day == "yesterday")), _clock(rest) if rest else time(), now)
    if day in _WEEKDAYS:
        back = (today.weekday() - _WEEKDAYS.index(day)) % 7
        return _latest(lambda turn: today - timedelta(days=back + 7 * turn), _clock(rest) if rest else time(), now)
    if _CLOCK.fullmatch(words):
        return _latest(lambda turn: today - timedelta(days=turn), _clock(words), now)
    return None


def _latest(day: Callable[[int], date], clock: time, now: datetime) -> datetime:
    """Return that time on the day itself, or on the one before of its kind where it is still to come."""
    found = _local(day(0), clock, now)
    return found if found <= now.astimezone(UTC) else _local(day(1), clock, now)


def _local(day: date, clock: time, now: datetime) -> datetime:
    return datetime.combine(day, clock, tzinfo=now.tzinfo).astimezone(UTC)


def _clock(words: str) -> time:
    match = _CLOCK.fullmatch(words)
    if not match:
        raise ValueError(words)
    return time(int(match[1]), int(match[2]), int(match[3] or 0))
