"""What the whole screen shows, asked of a controller."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from serai.cli.traffic.columns import ends
from serai.cli.traffic.live.place import WINDOWS, Condition, Place, service_is, short
from serai.wire import flowapi

T = TypeVar("T")

_SECONDS: Final = 10.0
"""That an answer may take: whoever watches would rather hear that there is none."""
_LINES: Final = 200
_RECENT: Final = timedelta(hours=1)
_LEAST_SECONDS: Final = 10.0
_KEYS: Final = 3
_DENIED: Final = Condition("verdict", "denied")


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
        asking = _Asking(client, now - WINDOWS[self.window], now)
        if self.place.kind == "records":
            page = asking.flows(self.place.near(self.narrowed))
            return View(completeness=page.completeness, seconds=asking.known(page.completeness), records=page.records)
        denials = _denials(self.place, asking.flows(self.place.either(self.narrowed, _DENIED)).records)
        if self.place.kind == "group":
            found = asking.top(self.place.near(self.narrowed), self.group)
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
            completeness=completeness, seconds=asking.known(completeness), lines=lines, total=total, trend=trend, denials=denials
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
        """Return the length of the time of which something is told: hosts tell of the last seconds later."""
        end = min(self._until, completeness.until or self._until)
        return max(_LEAST_SECONDS, (end - self._since).total_seconds())

    def top(self, narrowed: str, group: str) -> flowapi.Top:
        return self._ask("top", flowapi.Top, filter=narrowed, by="talkers", group=group, limit=_LINES)

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


def _line(place: Place, edge: flowapi.MapEdge) -> Line:
    """Tell an edge of a map from the side of one VM."""
    opened = edge.source == place.vm
    peer = edge.target if opened else edge.source
    # What one side denies, the other never hears of: records of both are looked at.
    sides = [
        Condition(field, end) for field, end in (("src", edge.source), ("dst", edge.target)) if not end.startswith("(")
    ]
    goes = place.to_records(
        f"{short(peer)} {edge.service}", *sides, service_is(edge.service), Condition("verdict", edge.verdict)
    )
    return Line(
        name=peer, bytes=edge.bytes, packets=edge.packets, goes=goes, arrow="→" if opened else "←", service=edge.service, verdict=edge.verdict
    )  # fmt: skip


def _denials(place: Place, records: Sequence[flowapi.Record]) -> list[Denial]:
    """Put records of one kind together, the latest first."""
    found: dict[tuple[str, str, str, str], list[flowapi.Record]] = {}
    for record in records:
        found.setdefault((*ends(record), record.service, record.rule or record.reason), []).append(record)
    return [
        Denial(
            last=max(record.at for record in same), source=source, target=target, service=service, why=reason,
            packets=sum(record.packets_out + record.packets_in for record in same),
            goes=place.to_records(
                f"{short(source)} → {short(target)} denied", _DENIED, Condition("src", source), Condition("dst", target), service_is(service),
            ),
        )
        for (source, target, service, reason), same in found.items()
    ]  # fmt: skip
