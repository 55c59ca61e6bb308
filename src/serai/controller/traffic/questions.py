"""Questions of people about traffic: who asks sees what their grants let them, and hears how complete each answer is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Final, get_args

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.analysis.naming import service_text
from serai.analysis.traffic.group import Group, GroupError
from serai.analysis.traffic.records import Cursor, CursorError, next_cursor, records
from serai.analysis.traffic.servicemap import conversations, edges, peers
from serai.analysis.traffic.statement import OUTSIDE
from serai.analysis.traffic.top import HEADINGS, top
from serai.analysis.traffic.trend import SERIES, step_of, trend
from serai.controller.requests import invalid, scope_of
from serai.controller.standing import may_see_hosts
from serai.controller.traffic.asking import MOST_ROWS, Asking, Row, Span, within
from serai.controller.traffic.telling import moment, protocol_text, record, rule_text, series, verdict_text
from serai.controller.views import require
from serai.model.tenancy import Scope
from serai.wire import flowapi

_STEPS: Final = 60
_MOST_STEPS: Final = 1000


class TrafficQuestions:
    """Answers them."""

    def __init__(self, asking: Asking) -> None:
        """Ask by that."""
        self._asking = asking

    async def flows(self, who: Caller, span: Span, *, limit: int, after: str | None) -> flowapi.FlowPage:
        """List records, the latest first.

        Raises:
            InvalidError: the filter, the time or the place in the list makes no sense; so for all questions.
            ForbiddenError: this person may see nothing; likewise.
            UnavailableError: the flow store cannot be asked; likewise.
        """
        asked = self._asking.asked(who, span, limit)
        try:
            cursor = Cursor.read(after) if after else None
        except CursorError as error:
            raise invalid("after", str(error)) from error
        rows, complete = await self._asking.answer(who, asked, records(asked, cursor))
        visible, vnics, rules = await asyncio.gather(
            self._asking.endpoints(asked, (row[end] for row in rows for end in ("vm", "peer"))),
            self._asking.vnics(row["vnic"] for row in rows),
            self._asking.rules(rows),
        )
        hosts, full = may_see_hosts(who), len(rows) == asked.limit
        return flowapi.FlowPage(
            records=[record(row, visible, vnics, rules, hosts=hosts) for row in rows], after=str(next_cursor([row["at"] for row in rows], cursor)) if full else None,
            completeness=complete,
        )  # fmt: skip

    async def top(self, who: Caller, span: Span, *, by: str, group: str, limit: int) -> flowapi.Top:
        """List the most of something."""
        asked = self._asking.asked(who, span, limit)
        kind = next((kind for kind in get_args(flowapi.TopBy) if kind == by), None)
        if kind is None:
            raise invalid("by", f"there are no top {by!r}: there are {', '.join(get_args(flowapi.TopBy))}")
        grouped = _group(group, both_ends=kind in {"pairs", "denied"})
        if grouped.kind == "host":
            require(who, Verb.READ_HOSTS)
        rows, complete = await self._asking.answer(who, asked, top(kind, grouped, asked))
        rules = await self._asking.rules(rows) if kind == "denied" else {}
        total = rows[0] if rows else {"all_bytes": 0, "all_packets": 0, "all_connections": 0}
        headings = [
            heading if kind in {"protocols", "services"} or grouped.kind == "vm" else f"{heading} ({grouped})"
            for heading in HEADINGS[kind]
        ]
        return flowapi.Top(
            by=kind, group=str(grouped), headings=headings,
            rows=[
                flowapi.TopRow(
                    names=_names(kind, row, rules), bytes=row["bytes"], packets=row["packets"], connections=row["connections"], last=moment(row["last"]) if kind == "denied" else None
                )
                for row in rows
            ],
            total=flowapi.TopRow(names=[], bytes=total["all_bytes"], packets=total["all_packets"], connections=total["all_connections"]),
            since=span.since, until=span.until, completeness=complete,
        )  # fmt: skip

    async def trend(self, who: Caller, span: Span, *, of: str, by: str, steps: int) -> flowapi.Trend:
        """Say how the traffic of a VM, or of a scope, went."""
        asked = self._asking.asked(who, span, MOST_ROWS)
        kind = next((kind for kind in get_args(flowapi.TrendBy) if kind == by), None)
        if kind is None:
            raise invalid("by", f"there is no trend by {by!r}: there is one by {', '.join(get_args(flowapi.TrendBy))}")
        name, vm, about = await self._asking.about(asked, of)
        step = step_of(asked.window, kind, max(1, min(steps or _STEPS, _MOST_STEPS)))
        since = asked.window.since // step * step
        count = -(-(asked.window.until - since) // step)
        rows, complete = await self._asking.answer(who, asked, trend(vm, kind, about, step))
        return flowapi.Trend(
            of=name, by=kind, since=moment(since), step_seconds=step, series=series(rows, kind, since=since, step=step, steps=count, most=SERIES), completeness=complete,
        )  # fmt: skip

    async def map(
        self, who: Caller, span: Span, *, scope: str, group: str, depth: int, limit: int
    ) -> flowapi.ServiceMap:
        """Say which groups talk to which."""
        grouped = _group(group, depth, both_ends=True)
        asked = within(self._asking.asked(who, span, limit), scope_of("scope", scope))
        rows, complete = await self._asking.answer(who, asked, edges(grouped, asked))
        nodes: dict[str, int] = {}
        for row in rows:
            nodes[row["source"]] = max(nodes.get(row["source"], 0), row["sources"])
            nodes[row["target"]] = max(nodes.get(row["target"], 0), row["targets"])
        return flowapi.ServiceMap(
            scope=scope, group=str(grouped), nodes=[flowapi.MapNode(name=name, vms=0 if name == OUTSIDE else vms) for name, vms in sorted(nodes.items())],
            edges=[
                flowapi.MapEdge(
                    source=row["source"], target=row["target"], service=service_text(row["protocol"], row["service"]), verdict=verdict_text(row["verdict"]),
                    bytes=row["bytes"], packets=row["packets"], connections=row["connections"],
                )
                for row in rows
            ],
            more=(rows[0]["edges"] if rows else 0) - len(rows), since=span.since, until=span.until, completeness=complete,
        )  # fmt: skip

    async def who(self, who: Caller, span: Span, *, vm: str, limit: int) -> flowapi.Who:
        """Say with whom a VM spoke."""
        asked = self._asking.asked(who, span, limit)
        path, of, about = await self._asking.vm(asked, vm)
        rows, complete = await self._asking.answer(who, asked, peers(of, about))
        return flowapi.Who(
            vm=path,
            peers=[
                flowapi.PeerRow(
                    peer=row["peer"], direction="egress" if row["mine"] else "ingress", service=service_text(row["protocol"], row["service"]),
                    verdict=verdict_text(row["verdict"]), bytes=row["bytes"], packets=row["packets"], connections=row["connections"], first=moment(row["first"]), last=moment(row["last"]),
                )
                for row in rows
            ],
            more=(rows[0]["rows"] if rows else 0) - len(rows), since=span.since, until=span.until, completeness=complete,
        )  # fmt: skip

    async def conversations(
        self, who: Caller, span: Span, *, scope: Scope, limit: int
    ) -> tuple[list[dict[str, Any]], dict[int, str], flowapi.Completeness]:
        """Return all kinds of conversations that touch a scope, the texts of their rules, and how complete that is."""
        asked = within(dataclasses.replace(self._asking.asked(who, span, 1), limit=limit), scope)
        rows, complete = await self._asking.answer(who, asked, conversations(asked))
        return rows, await self._asking.rules(rows), complete


def _group(text: str, depth: int = 0, *, both_ends: bool) -> Group:
    try:
        found = Group.of(text or "vm", depth=max(0, min(depth, 32)))
        if both_ends:
            found.of_both_ends()
    except GroupError as error:
        raise invalid("group", str(error)) from error
    return found


def _names(kind: str, row: Row, rules: Mapping[int, str]) -> list[str]:
    match kind:
        case "protocols":
            return [protocol_text(row["protocol"])]
        case "services":
            return [service_text(row["protocol"], row["service"])]
        case "denied":
            return [*row["names"], service_text(row["protocol"], row["service"]), rule_text(row, rules)]
        case _:
            return list(row["names"])
