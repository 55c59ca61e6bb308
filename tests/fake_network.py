"""A small data center whose traffic never ends, behind the client of the HTTP API."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import httpx2
import msgspec

from fake_traffic import a_record
from serai.analysis.filter import FilterError, parse
from serai.analysis.traffic.window import Window
from serai.cli.traffic.columns import ends
from serai.wire import flowapi
from serai.wire.client import Client
from serai.wire.profile import Profile

VMS = (
    "/acme/shop:web-1", "/acme/shop:web-2", "/acme/shop:db", "/acme/shop:cache", "/acme/pay:api-1", "/acme/pay:api-2", "/globex/crm:app",
    "/globex/crm:db", "/globex/crm:search", "/acme/ops:monitor", "/globex/www:front-1", "/globex/www:front-2",
)  # fmt: skip
GROUPS = {
    "vm": VMS,
    "tenant": ("acme", "globex"),
    "scope": ("/acme/shop", "/acme/pay", "/globex/crm"),
    "label:tier": ("web", "db", "(none)"),
}
_PROTOCOLS = {"tcp": 9.0, "udp": 2.0, "icmp": 0.02}
MOST = 9e7
"""Bytes a second of the first of all lines."""
DENIED_PACKETS = 123_456
"""Of the first kind: more than what the latest records tell."""
_LATE = 8
_SERVICES = {"tcp/5432": 6.0, "tcp/443": 3.0, "udp/53": 0.1, "tcp/6379": 1.0}


class FakeNetwork:
    """Answers as a controller does, and remembers what it was asked; ``status``: it does not.

    Sums are those of whole steps, from when on there is a history (``begins``; None: for ever); hosts have told up to eight seconds ago.
    """

    def __init__(self, *, whole: bool = True, begins: datetime | None = None) -> None:
        self.asked: list[httpx2.URL] = []
        self.away = False
        self.status = 200
        self.whole = whole
        self.begins = begins
        self.filters: list[str] = []

    def client(self) -> Client:
        return Client(Profile(url="http://localhost:8743"), transport=httpx2.MockTransport(self._answer))

    def last(self, path: str) -> httpx2.QueryParams:
        return next(url.params for url in reversed(self.asked) if url.path == f"/v1/{path}")

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url)
        if self.away:
            raise httpx2.ReadTimeout("nobody is there", request=request)
        narrowed = request.url.params.get("filter", "")
        try:
            parse(narrowed)
        except FilterError as error:
            return _problem(422, f"this is no filter:\n{error}")
        if self.status != 200:
            return _problem(self.status, "your roles do not let you see traffic: a viewer may")
        self.filters.append(narrowed)
        since, until = (datetime.fromisoformat(request.url.params[name]) for name in ("since", "until"))
        found = {"top": self._top, "trends": self._trend, "map": self._map, "flows": self._flows}[
            request.url.path.removeprefix("/v1/")
        ]
        return httpx2.Response(200, content=msgspec.json.encode(found(request.url.params, since, until)))

    def _seconds(self, since: datetime, until: datetime, *, pairs: bool) -> float:
        """Return of how long a time sums are."""
        window = Window(since=int(since.timestamp()), until=int(until.timestamp()))
        begin = float(window.widened(window.pair_grain if pairs else window.grain).since)
        if self.begins is not None:
            begin = max(begin, self.begins.timestamp())
        return max(0.0, until.timestamp() - _LATE - begin)

    def _complete(self, since: datetime, until: datetime) -> flowapi.Completeness:
        silent = [
            flowapi.Silence(host="hv-7", since=until - timedelta(seconds=90), until=until - timedelta(seconds=30))
        ]
        return flowapi.Completeness(
            percent=100.0 if self.whole else 97.2, records=48213, lost=0 if self.whole else 1350, silent=() if self.whole else silent,
            silent_hosts=0 if self.whole else 1, until=until - timedelta(seconds=_LATE),
            begins=self.begins if self.begins and self.begins > since else None,
        )  # fmt: skip

    def _top(self, params: httpx2.QueryParams, since: datetime, until: datetime) -> flowapi.Top:
        if params["by"] == "denied":
            return self._denied(since, until)
        group = params["group"]
        seconds = self._seconds(since, until, pairs=False)
        rows = [
            flowapi.TopRow(names=[name], bytes=int(seconds * MOST / (place + 1) ** 1.3), packets=1000, connections=7)
            for place, name in enumerate(GROUPS[group])
        ]
        total = flowapi.TopRow(names=[], bytes=sum(row.bytes for row in rows) * 2, packets=100_000, connections=80)
        return flowapi.Top(
            by="talkers", group=group, headings=["sent by"], rows=rows, total=total, since=since, until=until, completeness=self._complete(since, until)
        )  # fmt: skip

    def _denied(self, since: datetime, until: datetime) -> flowapi.Top:
        records = [msgspec.structs.replace(a_record(verdict="denied"), **each) for each in _DENIED]
        rows = [
            flowapi.TopRow(names=[*ends(each), each.service, each.rule], bytes=60, packets=DENIED_PACKETS // (place + 1), connections=0, last=until - timedelta(seconds=9 + 60 * place))
            for place, each in enumerate(records)
        ]  # fmt: skip
        total = flowapi.TopRow(names=[], bytes=1, packets=3 * DENIED_PACKETS, connections=0)
        return flowapi.Top(
            by="denied", group="vm", headings=["opened by", "to", "service", "rule"], rows=rows, total=total, since=since, until=until, completeness=self._complete(since, until)
        )  # fmt: skip

    def _trend(self, params: httpx2.QueryParams, since: datetime, until: datetime) -> flowapi.Trend:
        steps = int(params["steps"])
        length = max(10, int((until - since).total_seconds() / steps))
        count = int((until - since).total_seconds()) // length
        names = _PROTOCOLS if params["by"] == "protocol" else _SERVICES
        series = []
        for place, (name, size) in enumerate(names.items()):
            sums = [
                int(length * size * 1e7 * (1.4 + math.sin(step / (3.0 + place)) + 0.3 * math.sin(step * 1.7 + place)))
                for step in range(count)
            ]
            series.append(
                flowapi.Series(name=name, bytes=sums, packets=[each // 1000 for each in sums], connections=sums)
            )
        return flowapi.Trend(
            of=params["of"], by=params["by"], since=since, step_seconds=length, series=series, completeness=self._complete(since, until)  # type: ignore[arg-type]
        )  # fmt: skip

    def _map(self, params: httpx2.QueryParams, since: datetime, until: datetime) -> flowapi.ServiceMap:
        seconds = self._seconds(since, until, pairs=True)
        named = [name for name in VMS if f'"{name}"' in params.get("filter", "")]
        vm = named[0] if named else VMS[0]
        ends = [
            (vm, "/acme/shop:db", "tcp/5432", "accepted", MOST), ("203.0.113.9", vm, "tcp/443", "accepted", 3e6),
            ("2001:db8::17:4", vm, "tcp/443", "accepted", 1e6), (vm, "/acme/shop:cache", "tcp/6379", "accepted", 9e5),
            (vm, "/globex/crm:db", "tcp/5432", "denied", 60), (vm, "10.0.0.250", "udp/53", "accepted", 2e3),
            ("/acme/ops:monitor", vm, "tcp/9100", "observed", 5e2),
        ]  # fmt: skip
        edges = [
            flowapi.MapEdge(source=s, target=t, service=service, verdict=verdict, bytes=int(size * seconds), packets=23, connections=3)  # type: ignore[arg-type]
            for s, t, service, verdict, size in ends
        ]  # fmt: skip
        return flowapi.ServiceMap(
            scope="/",
            group="vm",
            nodes=[],
            edges=edges,
            since=since,
            until=until,
            completeness=self._complete(since, until),
        )

    def _flows(self, params: httpx2.QueryParams, since: datetime, until: datetime) -> flowapi.FlowPage:
        verdict = "denied" if 'verdict="denied"' in params.get("filter", "") else "accepted"
        at = until.replace(microsecond=0) - timedelta(seconds=9)
        records = []
        for number in range(min(int(params["limit"]), 40)):
            record = a_record(number % 12, verdict=verdict, at=at - timedelta(seconds=10 * (number // 3)))
            if verdict == "denied":
                record = msgspec.structs.replace(record, **_DENIED[number % len(_DENIED)])
            records.append(record)
        return flowapi.FlowPage(records=records, completeness=self._complete(since, until))


_DENIED: tuple[dict[str, object], ...] = (
    {"vm": "/acme/shop:web-1", "peer": "/globex/crm:db", "service": "tcp/5432", "rule": "/acme:shop/egress/db-only"},
    {"vm": "/globex/www:front-1", "peer": "", "remote": "198.51.100.7", "service": "tcp/22", "rule": "/:baseline/ingress/no-ssh", "direction": "ingress"},
    {"vm": "/acme/pay:api-2", "peer": "/acme/shop:cache", "service": "tcp/6379", "rule": "", "reason": "no_flow", "unanswered": False},
    {"vm": "/globex/crm:search", "peer": "", "remote": "2001:db8:77::1:2", "service": "udp/53", "rule": "/globex:crm/egress/no-dns"},
)  # fmt: skip


def _problem(status: int, detail: str) -> httpx2.Response:
    return httpx2.Response(
        status, json={"type": "urn:serai:problem:x", "title": "t", "status": status, "detail": detail}
    )
