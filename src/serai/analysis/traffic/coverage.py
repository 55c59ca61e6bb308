"""How complete an answer is: which hosts told, when, and how much is known to be lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from serai.analysis.traffic.statement import Statement
from serai.analysis.traffic.window import Window

SILENT_SECONDS: Final = 30
"""Three intervals: who tells nothing for longer was silent."""
_MINUTE, _HOUR = 60, 3600
_FINE: Final = 2 * _HOUR
"""So much is looked at batch by batch, or minute by minute."""
_BATCHES: Final = 600


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time from which nothing of a host is known."""

    host: str
    since: float
    until: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.until - self.since


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What is known of a window."""

    records: int
    lost: int
    gaps: Sequence[Gap]
    """The longest first."""
    hosts: int
    """That told anything, or should have."""
    latest: float | None
    """The last moment that any host told of."""

    @property
    def percent(self) -> float:
        """Of the records that were made, those that are here."""
        made = self.records + self.lost
        return 100.0 * self.records / made if made else 100.0


def told(window: Window) -> Statement:
    """Ask when each host told: rows have ``host``, ``t`` (where a step begins), ``minutes`` (bits, of steps of an hour), ``records``, ``lost``, ``first``, ``last``."""
    if window.seconds <= _BATCHES:
        # No batch is longer than this window, and what began before it may reach into it.
        select = "host, toUInt32(since) AS t, toUInt64(0) AS minutes, records, lost_ring + lost_forgotten + lost_spool AS lost, toFloat64(since) AS first, toFloat64(until) AS last FROM batches WHERE until > toDateTime({since:UInt32}) AND since < toDateTime({until:UInt32}) AND toDate(since) >= toDate(toDateTime({early:UInt32}))"  # fmt: skip
        group = ""
    else:
        minute = window.seconds <= _FINE
        table, bits = ("coverage_1m", "toUInt64(0)") if minute else ("coverage_1h", "groupBitOr(c.minutes)")
        select = f"host, toUInt32(c.t) AS t, {bits} AS minutes, sum(c.records) AS records, sum(c.lost) AS lost, toFloat64(min(c.first)) AS first, toFloat64(max(c.last)) AS last FROM {table} AS c WHERE c.t >= toDateTime({{early:UInt32}}) AND c.t < toDateTime({{until:UInt32}})"  # fmt: skip
        group = " GROUP BY host, t"
    step = _MINUTE if window.seconds <= _FINE else _HOUR
    early = window.since // step * step
    return Statement(sql=f"SELECT {select}{group} ORDER BY host, t", parameters={"since": window.since, "until": window.until, "early": early} if not group else {"until": window.until, "early": early})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a host told in one step."""

    host: str
    t: int
    minutes: int
    records: int
    lost: int
    first: float
    last: float


def coverage(window: Window, rows: Iterable[Told], expected: Mapping[str, float], now: float) -> Coverage:
    """Say how complete a window is.

    Args:
        window: the one.
        rows: what ``told`` asks for, in order of host and time.
        expected: hosts that should have told, each since when (seconds since 1970).
        now: the time; of the last moments nobody can have told yet.
    """
    by: dict[str, list[Told]] = {}
    records = lost = 0
    for row in rows:
        by.setdefault(row.host, []).append(row)
        records += row.records
        lost += row.lost
    end = min(float(window.until), now - SILENT_SECONDS)
    gaps: list[Gap] = []
    for host in sorted(by.keys() | expected.keys()):
        spans = [span for row in by.get(host, ()) for span in _spans(row)]
        begin = max(float(window.since), expected.get(host, spans[0][0] if spans else end))
        gaps += _between(host, spans, begin, end)
    gaps.sort(key=lambda gap: (-gap.seconds, gap.host, gap.since))
    latest = max((row.last for rows in by.values() for row in rows), default=None)
    return Coverage(records=records, lost=lost, gaps=gaps, hosts=len(by.keys() | expected.keys()), latest=latest)


def _spans(row: Told) -> Iterable[tuple[float, float]]:
    """Return the times that a row covers: its own, or its minutes one by one."""
    if not row.minutes:
        return [(row.first, row.last)]
    found = []
    for minute in range(60):
        if row.minutes >> minute & 1:
            begin = float(row.t + minute * _MINUTE)
            # A batch stands in the minute in which it ends.
            found.append((max(begin - SILENT_SECONDS / 3, row.first), min(begin + _MINUTE, max(row.last, begin))))
    return found


def _between(host: str, spans: Sequence[tuple[float, float]], begin: float, end: float) -> Iterable[Gap]:
    at = begin
    found = []
    for since, until in sorted(spans):
        if since - at > SILENT_SECONDS and since > begin:
            found.append(Gap(host=host, since=at, until=min(since, end)))
        at = max(at, until)
    if end - at > SILENT_SECONDS:
        found.append(Gap(host=host, since=at, until=end))
    return [gap for gap in found if gap.seconds > SILENT_SECONDS]
