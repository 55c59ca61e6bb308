"""Answers about traffic that never change, for tests of whoever asks over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

from msgspec import structs

from serai.access.decide import Caller
from serai.analysis.filter import FilterError, parse
from serai.controller.errors import InvalidError, NotFoundError
from serai.controller.traffic.asking import Span
from serai.model.reasons import Reason
from serai.wire import flowapi

AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
COMPLETE = flowapi.Completeness(
    percent=97.2, records=1000, lost=29, silent=[flowapi.Silence(host="host-7", since=AT, until=AT + timedelta(seconds=90))], silent_hosts=1, until=AT
)  # fmt: skip


def a_record(number: int = 0, *, verdict: str = "accepted", at: datetime = AT) -> flowapi.Record:
    return flowapi.Record(
        at=at, host="host-1", vnic="/acme/shop:web-1/nic0", vm="/acme/shop:web-1", tenant="acme", scope="/acme/shop", network="/acme:front", labels={"tier": "web"},
        peer="/acme/shop:db", peer_labels={"tier": "db"}, local="10.0.0.1", remote="10.0.0.2", local_port=50000 + number, remote_port=5432, protocol="tcp", service="tcp/5432",
        direction="egress", verdict=verdict, staged=verdict, reason="none" if verdict == "accepted" else "denied", rule="/acme:shop/egress/db", identity=7, own_identity=8,
        begins=True, ends=False, packets_out=10, packets_in=12, bytes_out=1500, bytes_in=98500, first=at, last=at, flags_out=2, flags_in=18, rtt_us=800, syn_repeats=0,
        unanswered=verdict == "denied", refused=False,
    )  # type: ignore[arg-type]  # fmt: skip


class FakeTraffic:
    """One VM, one peer, one denied service."""

    spans: list[Span]

    def _asked(self, span: Span) -> None:
        try:
            parse(span.narrowed)
        except FilterError as error:
            raise InvalidError(f"this is no filter:\n{error}") from error
        self.spans = [*getattr(self, "spans", []), span]

    async def flows(self, who: Caller, span: Span, *, limit: int, after: str | None) -> flowapi.FlowPage:
        del who, after
        self._asked(span)
        records = [a_record(1), a_record(0, verdict="denied")][:limit]
        return flowapi.FlowPage(records=records, after="1-1" if limit < 2 else None, completeness=COMPLETE)

    async def top(self, who: Caller, span: Span, *, by: str, group: str, limit: int) -> flowapi.Top:
        del who, limit
        if by not in get_args(flowapi.TopBy):
            raise InvalidError(f"there are no top {by!r}")
        self._asked(span)
        names = {
            "talkers": ["/acme/shop:web-1"],
            "pairs": ["/acme/shop:web-1", "/acme/shop:db"],
            "denied": ["/acme/shop:web-1", "/acme/shop:db", "tcp/22", "/acme:shop/egress/db"],
        }
        last = AT if by == "denied" else None
        rows = [flowapi.TopRow(names=names.get(by, ["tcp"]), bytes=3_000_000, packets=2000, connections=10, last=last)]
        total = flowapi.TopRow(names=[], bytes=4_000_000, packets=4000, connections=12)
        return flowapi.Top(
            by=by, group=group, headings=[f"name {at}" for at, _ in enumerate(rows[0].names)], rows=rows, total=total, since=span.since, until=span.until, completeness=COMPLETE
        )  # type: ignore[arg-type]  # fmt: skip

    async def trend(self, who: Caller, span: Span, *, of: str, by: str, steps: int) -> flowapi.Trend:
        del who, steps
        if by not in get_args(flowapi.TrendBy):
            raise InvalidError(f"there is no trend by {by!r}")
        self._asked(span)
        if of == "nobody":
            raise NotFoundError("no traffic of a VM 'nobody' is on record")
        series = [flowapi.Series(name="tcp", bytes=[0, 500, 1000], packets=[0, 5, 10], connections=[0, 1, 0])]
        return flowapi.Trend(of=of, by=by, since=AT, step_seconds=60, series=series, completeness=COMPLETE)  # type: ignore[arg-type]

    async def service_map(
        self, who: Caller, span: Span, *, scope: str, group: str, depth: int, limit: int
    ) -> flowapi.ServiceMap:
        del who, depth, limit
        self._asked(span)
        edges = [
            flowapi.MapEdge(
                source="web",
                target="db",
                service="tcp/5432",
                verdict="accepted",
                bytes=10**6,
                packets=10,
                connections=3,
            ),
            flowapi.MapEdge(
                source="web", target="db", service="tcp/22", verdict="denied", bytes=60, packets=1, connections=0
            ),
        ]
        nodes = [flowapi.MapNode(name="db", vms=1), flowapi.MapNode(name="web", vms=2)]
        return flowapi.ServiceMap(
            scope=scope,
            group=group,
            nodes=nodes,
            edges=edges,
            more=3,
            since=span.since,
            until=span.until,
            completeness=COMPLETE,
        )

    async def spoke(self, who: Caller, span: Span, *, vm: str, limit: int) -> flowapi.Who:
        del who, limit
        self._asked(span)
        if vm == "nobody":
            raise NotFoundError("no traffic of a VM 'nobody' is on record")
        peers = [
            flowapi.PeerRow(
                peer="/acme/shop:db",
                direction="egress",
                service="tcp/5432",
                verdict="accepted",
                bytes=10**6,
                packets=9,
                connections=2,
                first=AT,
                last=AT,
            )
        ]
        return flowapi.Who(
            vm=f"/acme/shop:{vm}", peers=peers, since=span.since, until=span.until, completeness=COMPLETE
        )

    async def drops(self, who: Caller, span: Span, *, of: str, limit: int) -> flowapi.Drops:
        del limit
        self._asked(span)
        rows = [
            flowapi.DropRow(
                host="host-1" if who.name == "admin" else "", vnic="/acme/shop:web-1/nic0", direction="egress", reason="foreign_ip", packets=1234, first=AT, last=AT
            )
        ]  # fmt: skip
        reasons = [
            flowapi.DropReason(reason="foreign_ip", description=Reason.FOREIGN_IP.description, packets=1234, vnics=1)
        ]
        return flowapi.Drops(
            of=of, packets=1234, reasons=reasons, rows=rows, more=2, since=span.since, until=span.until, completeness=COMPLETE
        )  # fmt: skip

    async def sightings(self, who: Caller, span: Span, *, vm: str) -> flowapi.Sightings:
        del who
        self._asked(span)
        if vm == "nobody":
            raise NotFoundError("no traffic of a VM 'nobody' is on record")
        row = flowapi.SightingRow(
            vnic=f"/acme/shop:{vm}/nic0", kind="dhcp_discover", direction="egress", packets=3, address="10.0.0.1", first=AT, last=AT
        )  # fmt: skip
        rows = [row, structs.replace(row, kind="neighbor_solicitation", direction="ingress", address="")]
        return flowapi.Sightings(
            vm=f"/acme/shop:{vm}",
            rows=rows if vm != "quiet" else [],
            since=span.since,
            until=span.until,
            completeness=COMPLETE,
        )

    async def suggest(self, who: Caller, body: flowapi.SuggestRequest) -> flowapi.Suggestion:
        del who
        yaml = f"# for {body.scope}\napiVersion: serai.dev/v1\n"
        return flowapi.Suggestion(
            yaml=yaml,
            notes=["one thing is left out"],
            conversations=4,
            ungoverned={"ingress": ["/acme/shop:quiet"]},
            completeness=COMPLETE,
        )

    async def whatif(self, who: Caller, body: flowapi.WhatIfRequest) -> flowapi.WhatIf:
        del who
        rows = [
            flowapi.WhatIfRow(
                change="denied", source="/acme/shop:web-1", target="/acme/shop:db", service="tcp/5432", connections=4, bytes=5000, last=AT, rule_before="a", rule_after="b"
            )
        ]  # fmt: skip
        return flowapi.WhatIf(rows=rows if body.files else [], conversations=9, unknown=1, completeness=COMPLETE)
