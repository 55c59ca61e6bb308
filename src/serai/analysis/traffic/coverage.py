"""How complete an answer is: which hosts told, when, and how much is known to be lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

from serai.analysis.traffic.statement import Statement
from serai.analysis.traffic.window import Window

SILENT_SECONDS: Final = 30
"""Three intervals: who tells nothing for longer was silent."""
_MINUTE, _HOUR = 60, 3600
_FINE: Final = 2 * _HOUR
"""So much is looked at batch by batch, or minute by minute."""
_BATCHES: Final = 600
_LATELY: Final = 86400
"""Hosts that told anything in so many seconds before a window should have told in it, too."""
_INTERVAL: Final = SILENT_SECONDS // 3


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is on record of who told when."""

    told: Sequence[Told]
    """In the window, in order of host and time."""
    expected: Mapping[str, float]
    """Hosts that should have told, each since when (seconds since 1970)."""
    begins: float
    """When anything was recorded first, likewise; 0: nothing was."""

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Read what ``history`` asks for."""
        of: dict[str, list[Told]] = {"told": [], "expected": [], "begins": []}
        for row in rows:
            of[row["what"]].append(Told(**{name: value for name, value in row.items() if name != "what"}))
        return cls(
            told=sorted(of["told"], key=lambda row: (row.host, row.t)),
            expected={row.host: row.first for row in of["expected"]},
            begins=max((row.first for row in of["begins"]), default=0.0),
        )

    def begins_within(self, window: Window) -> float | None:
        """Say since when anything is on record, where that is after the window begins."""
        return self.begins if self.begins > window.since + SILENT_SECONDS else None


def history(window: Window, *, table: str = "") -> Statement:
    """Ask for all that ``History`` says about a window; ``table``: see ``Statement``.

    Rows have ``what`` (``told``, ``expected`` or ``begins``) and the columns of ``Told``; of the last two ``first`` is what is told.
    """
    told, parameters = _told(window)
    nothing = "toUInt32(0) AS t, toUInt64(0) AS minutes, toUInt64(0) AS records, toUInt64(0) AS lost"
    lately = "c.t >= toDateTime({lately:UInt32}) AND c.t < toDateTime({until:UInt32})"
    parts = [
        f"SELECT 'told' AS what, toString(s.host) AS host, t, minutes, records, lost, first, last FROM ({told}) AS s",
        f"SELECT 'expected', toString(c.host), {nothing}, toFloat64(min(c.first)), 0.0 FROM coverage_1h AS c WHERE {lately} GROUP BY c.host",
        *(f"SELECT 'begins', '', {nothing}, {first}, 0.0 {rows}" for first, rows in _begins(table)),
    ]
    return Statement(
        sql=" UNION ALL ".join(parts),
        parameters=parameters | {"until": window.until, "lately": max(0, window.since - _LATELY)},
    )


def _begins(table: str) -> Iterator[tuple[str, str]]:
    """Go through what says since when there is anything: the latest of it counts."""
    # Sums of a minute are kept as long as drops, which may be so rare that they say nothing themselves.
    kept = "coverage_1m" if table == "drops" else "coverage_1h"
    yield "toFloat64(min(c.first))", f"FROM {kept} AS c WHERE c.t = (SELECT t FROM {kept} ORDER BY t LIMIT 1)"
    if table in {"flows", "sightings"}:
        yield f"toFloat64(min(at)) - {_INTERVAL}", f"FROM {table}"


def _told(window: Window) -> tuple[str, dict[str, object]]:
    """Write what asks when each host told."""
    if window.seconds <= _BATCHES:
        # No batch is longer than this window, and what began before it may reach into it.
        sql = (
            "SELECT host, toUInt32(since) AS t, toUInt64(0) AS minutes, records, lost_ring + lost_forgotten + lost_spool AS lost, toFloat64(since) AS first, toFloat64(until) AS last"
            " FROM batches WHERE until > toDateTime({since:UInt32}) AND since < toDateTime({until:UInt32}) AND toDate(since) >= toDate(toDateTime({early:UInt32}))"
        )
        return sql, {"since": window.since, "early": window.since // _MINUTE * _MINUTE}
    minute = window.seconds <= _FINE
    table, bits, step = (
        ("coverage_1m", "toUInt64(0)", _MINUTE) if minute else ("coverage_1h", "groupBitOr(c.minutes)", _HOUR)
    )
    sql = (
        f"SELECT host, toUInt32(c.t) AS t, {bits} AS minutes, sum(c.records) AS records, sum(c.lost) AS lost, toFloat64(min(c.first)) AS first, toFloat64(max(c.last)) AS last"
        f" FROM {table} AS c WHERE c.t >= toDateTime({{early:UInt32}}) AND c.t < toDateTime({{until:UInt32}}) GROUP BY host, t"
    )
    return sql, {"early": window.since // step * step}


def coverage(window: Window, rows: Iterable[Told], expected: Mapping[str, float], now: float) -> Coverage:
    """Say how complete a window is.

    Args:
        window: the one.
        rows: when hosts told; see ``History``.
        expected: likewise.
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
            found.append((max(begin - _INTERVAL, row.first), min(begin + _MINUTE, max(row.last, begin))))
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
