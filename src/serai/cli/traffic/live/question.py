"""What the whole screen shows, asked of a controller."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeVar

from serai.analysis.traffic.window import Window
from serai.cli.traffic.columns import ends
from serai.cli.traffic.live.place import WINDOWS, Condition, Place, service_is, short
from serai.wire import flowapi

T = TypeVar("T")

_SECONDS: Final = 10.0
"""That an answer may take: whoever watches would rather hear that there is none."""
_LINES: Final = 200
_DENIALS: Final = 1000
"""Kinds of them: those with most packets."""
_RECENT: Final = timedelta(hours=1)
_LEAST_SECONDS: Final = 10.0
_KEYS: Final = 3
_DENIED: Final = Condition("verdict", "denied")
_THE_GATE: Final = "the gate"
"""Why, where no rule was asked and it is not told otherwise."""
_UNKNOWN: Final = "(unknown)"
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Asks(Protocol):
    """A client of a controller, as far as it is needed here."""

    def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        params: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> T:
        """Ask for something that comes as ``kind``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One of the largest: a group, a VM, or what a VM does with a peer."""

    name: str
    bytes: int
    packets: int
    goes: Place | None
    """What is seen closer by; None: there is no more."""
    arrow: str = ""
    """To a peer, or from it."""
    service: str = ""
    verdict: str = "accepted"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Packets of one kind that were dropped."""

    last: datetime
    source: str
    target: str
    service: str
    why: str
    packets: int
    """All in that time."""
    goes: Place


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An answer."""

    completeness: flowapi.Completeness
    seconds: float
    """That the answer tells of."""
    lines: Sequence[Line] = ()
    total: int = 0
    """Bytes of all lines, also of those that are not told."""
    trend: flowapi.Trend | None = None
    denials: Sequence[Denial] = ()
    """The latest first."""
    denied: int = 0
    """Packets of all denials, also of those that are not told."""
    records: Sequence[flowapi.Record] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be seen."""

    place: Place
    group: str
    window: str
    """One of ``WINDOWS``."""
    narrowed: str
    """What the person wrote: a filter."""
    steps: int
    """Of a sparkline."""

    def ask(self, client: Asks, now: datetime) -> View:
        """Have it answered.

        Raises:
            ClientError: there is no answer, or it is no.
        """
        asking = _Asking(client, _begin(now - WINDOWS[self.window], now, of=self.place.kind), now)
        if self.place.kind == "records":
            page = asking.flows(self.place.near(self.narrowed))
            return View(completeness=page.completeness, seconds=asking.known(page.completeness), records=page.records)
        denied = asking.top(self.place.either(self.narrowed), "denied", "vm", _DENIALS)
        # Sums do not keep why a gate itself has dropped something: the latest records tell.
        latest = asking.flows(self.place.either(self.narrowed, _DENIED))
        denials = _denials(self.place, denied.rows, latest.records)
        if self.place.kind == "group":
            found = asking.top(self.place.near(self.narrowed), "talkers", self.group, _LINES)
            lines = [
                Line(name=row.names[0], bytes=row.bytes, packets=row.packets, goes=self.place.into(self.group, row.names[0]))
                for row in found.rows
            ]  # fmt: skip
            trend = asking.trend(self.place.scope, "protocol", self.place.near(self.narrowed, scoped=False), self.steps)
            completeness, total = found.completeness, found.total.bytes
        else:
            edges = asking.map(self.place.either(self.narrowed))
            lines = [_line(self.place, edge) for edge in edges.edges]
            trend = asking.trend(self.place.vm, "service", self.narrowed, self.steps)
            completeness, total = edges.completeness, sum(line.bytes for line in lines)
        return View(
            completeness=completeness, seconds=asking.known(completeness), lines=lines, total=total, trend=trend, denials=denials, denied=denied.total.packets
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """Which labels VMs have: those that most records have, and of them the first."""

    def ask(self, client: Asks, now: datetime) -> tuple[str, ...]:
        """Have it answered.

        Raises:
            ClientError: there is no answer, or it is no.
        """
        page = _Asking(client, now - _RECENT, now).flows("")
        found = Counter(key for record in page.records for key in record.labels)
        return tuple(key for key, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_KEYS])


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """Is this a filter?"""

    text: str

    def ask(self, client: Asks, now: datetime) -> str:
        """Have it read; returns it.

        Raises:
            ClientError: it is none, or there is no answer.
        """
        _Asking(client, now - WINDOWS["1m"], now).flows(self.text, limit=1)
        return self.text


class _Asking:
    def __init__(self, client: Asks, since: datetime, until: datetime) -> None:
        self._client, self._since, self._until = client, since, until

    def known(self, completeness: flowapi.Completeness) -> float:
        """Return the length of the time of which something is told: from where history begins, and hosts tell of the last seconds later."""
        begin = max(self._since, completeness.begins or self._since)
        end = min(self._until, completeness.until or self._until)
        return max(_LEAST_SECONDS, (end - begin).total_seconds())

    def top(self, narrowed: str, by: flowapi.TopBy, group: str, limit: int) -> flowapi.Top:
        return self._ask("top", flowapi.Top, filter=narrowed, by=by, group=group, limit=limit)

    def trend(self, of: str, by: str, narrowed: str, steps: int) -> flowapi.Trend:
        return self._ask("trends", flowapi.Trend, of=of, by=by, filter=narrowed, steps=steps)

    def map(self, narrowed: str) -> flowapi.ServiceMap:
        return self._ask("map", flowapi.ServiceMap, filter=narrowed, group="vm", limit=_LINES)

    def flows(self, narrowed: str, limit: int = _LINES) -> flowapi.FlowPage:
        return self._ask("flows", flowapi.FlowPage, filter=narrowed, limit=limit)

    def _ask(self, what: str, kind: type[T], **params: object) -> T:
        given = {name: value for name, value in params.items() if value != ""}
        times = {"since": self._since.isoformat(), "until": self._until.isoformat()}
        return self._client.ask("GET", f"/v1/{what}", kind, params=given | times, seconds=_SECONDS)


def _begin(since: datetime, until: datetime, *, of: Literal["group", "vm", "records"]) -> datetime:
    """Return where the steps begin of what is kept, and answers with it: a rate is that of whole steps."""
    window = Window(since=int(since.timestamp()), until=math.ceil(until.timestamp()))
    found = window.widened(window.pair_grain if of == "vm" else window.grain)
    return datetime.fromtimestamp(found.since, UTC)


def _line(place: Place, edge: flowapi.MapEdge) -> Line:
    """Tell an edge of a map from the side of one VM."""
    opened = edge.source == place.vm
    peer = edge.target if opened else edge.source
    # What one side denies, the other never hears of: records of both are looked at.
    sides = _sides(edge.source, edge.target)
    goes = place.to_records(
        f"{short(peer)} {edge.service}", *sides, service_is(edge.service), Condition("verdict", edge.verdict)
    )
    return Line(
        name=peer, bytes=edge.bytes, packets=edge.packets, goes=goes, arrow="→" if opened else "←", service=edge.service, verdict=edge.verdict
    )  # fmt: skip


def _denials(place: Place, rows: Iterable[flowapi.TopRow], latest: Iterable[flowapi.Record]) -> list[Denial]:
    """Tell what was denied, the latest first; ``latest``: records of denials."""
    reasons: dict[tuple[str, ...], str] = {}
    for record in latest:
        if not record.rule:  # of ports that nobody is assigned, rows tell the protocol alone
            for service in (record.service, record.protocol):
                reasons.setdefault((*ends(record), service), record.reason)
    found = []
    for row in rows:
        source, target, service, rule = row.names
        found.append(
            Denial(
                last=row.last or _NEVER, source=source or _UNKNOWN, target=target or _UNKNOWN, service=service,
                why=rule or reasons.get((source, target, service), _THE_GATE), packets=row.packets,
                goes=place.to_records(f"{short(source)} → {short(target)} denied", _DENIED, *_sides(source, target), service_is(service)),
            )
        )  # fmt: skip
    return sorted(found, key=lambda denial: denial.last, reverse=True)


def _sides(source: str, target: str) -> Iterable[Condition]:
    """Say who opened it, and to whom, as far as they have names."""
    return [
        Condition(field, end) for field, end in (("src", source), ("dst", target)) if end and not end.startswith("(")
    ]
