"""Questions of people about traffic: who asks sees what their grants let them, and hears how complete each answer is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from serai.access.decide import Caller, Refused, Subject, decide
from serai.access.verbs import Verb
from serai.analysis.filter import Clause, Filter, FilterError, parse
from serai.analysis.naming import service_text
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.coverage import SILENT_SECONDS, Coverage, Told, coverage, told
from serai.analysis.traffic.group import Group, GroupError
from serai.analysis.traffic.records import Cursor, CursorError, names_of, next_cursor, numbers_of, records
from serai.analysis.traffic.servicemap import conversations, edges, peers
from serai.analysis.traffic.statement import OUTSIDE, Statement, is_within
from serai.analysis.traffic.top import HEADINGS, top
from serai.analysis.traffic.trend import SERIES, step_of, trend
from serai.analysis.traffic.window import Window
from serai.controller.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from serai.controller.requests import invalid, scope_of
from serai.controller.standing import may_see_hosts
from serai.controller.traffic.telling import (
    completeness,
    moment,
    protocol_text,
    record,
    rule_text,
    series,
    verdict_text,
)
from serai.controller.traffic.traffic import Traffic
from serai.flowstore.embedded import EngineError
from serai.flowstore.store import QuestionError
from serai.model.tenancy import ROOT, Scope
from serai.wire import flowapi

MOST_ROWS: Final = 1000
"""Rows of one answer at the most."""
_STEPS: Final = 60
_FEW: Final = 5
_MOST_STEPS: Final = 1000
_LONGEST_SECONDS: Final = 10 * 366 * 86400
_HOSTS_SECONDS: Final = 86400

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What every question about traffic says: when, and which records."""

    since: datetime
    until: datetime
    narrowed: str = ""
    """A filter; empty: all records."""


class TrafficQuestions:
    """Answers them."""

    def __init__(self, traffic: Traffic, *, clock: Callable[[], datetime]) -> None:
        """Ask that."""
        self._traffic, self._clock = traffic, clock

    async def flows(self, who: Caller, span: Span, *, limit: int, after: str | None) -> flowapi.FlowPage:
        """List records, the latest first.

        Raises:
            InvalidError: the filter, the time or the place in the list makes no sense; so for all questions.
            ForbiddenError: this person may see nothing; likewise.
            UnavailableError: the flow store cannot be asked; likewise.
        """
        asked = self._asked(who, span, limit)
        try:
            cursor = Cursor.read(after) if after else None
        except CursorError as error:
            raise invalid("after", str(error)) from error
        rows = await self._rows(records(asked, cursor))
        endpoints = {
            row["number"]: row
            for row in await self._named("endpoints", (row[end] for row in rows for end in ("vm", "peer")))
        }
        vnics = {row["vnic"]: row["path"] for row in await self._named("vnics", (row["vnic"] for row in rows))}
        rules = await self._rules(rows)
        visible = {number: row for number, row in endpoints.items() if is_within(row["scope"], asked.seen)}
        full = len(rows) == asked.limit
        return flowapi.FlowPage(
            records=[record(row, visible, vnics, rules) for row in rows], after=str(next_cursor([row["at"] for row in rows], cursor)) if full else None,
            completeness=await self._complete(who, asked.window),
        )  # fmt: skip

    async def top(self, who: Caller, span: Span, *, by: str, group: str, limit: int) -> flowapi.Top:
        """List the most of something."""
        asked, grouped = self._asked(who, span, limit), _group(group)
        kind = next((kind for kind in get_args(flowapi.TopBy) if kind == by), None)
        if kind is None:
            raise invalid("by", f"there are no top {by!r}: there are {', '.join(get_args(flowapi.TopBy))}")
        rows = await self._rows(top(kind, grouped, asked))
        rules = await self._rules(rows) if kind == "denied" else {}
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
            since=span.since, until=span.until, completeness=await self._complete(who, asked.window),
        )  # fmt: skip

    async def trend(self, who: Caller, span: Span, *, of: str, by: str, steps: int) -> flowapi.Trend:
        """Say how the traffic of a VM, or of a scope, went."""
        asked = self._asked(who, span, MOST_ROWS)
        kind = next((kind for kind in get_args(flowapi.TrendBy) if kind == by), None)
        if kind is None:
            raise invalid("by", f"there is no trend by {by!r}: there is one by {', '.join(get_args(flowapi.TrendBy))}")
        vm: Clause | None = None
        if of.startswith("/") and ":" not in of:
            asked = _within(asked, scope_of("of", of))
            name = of
        else:
            vm, name, tenant = await self._vm(asked, of)
            asked = dataclasses.replace(asked, scopes=[tenant])
        step = step_of(asked.window, kind, max(1, min(steps or _STEPS, _MOST_STEPS)))
        since = asked.window.since // step * step
        count = -(-(asked.window.until - since) // step)
        rows = await self._rows(trend(vm, kind, asked, step))
        return flowapi.Trend(
            of=name, by=kind, since=moment(since), step_seconds=step, series=series(rows, kind, since=since, step=step, steps=count, most=SERIES), completeness=await self._complete(who, asked.window),
        )  # fmt: skip

    async def map(
        self, who: Caller, span: Span, *, scope: str, group: str, depth: int, limit: int
    ) -> flowapi.ServiceMap:
        """Say which groups talk to which."""
        grouped = _group(group, depth)
        asked = _within(self._asked(who, span, limit), scope_of("scope", scope))
        rows = await self._rows(edges(grouped, asked))
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
            more=(rows[0]["edges"] if rows else 0) - len(rows), since=span.since, until=span.until, completeness=await self._complete(who, asked.window),
        )  # fmt: skip

    async def who(self, who: Caller, span: Span, *, vm: str, limit: int) -> flowapi.Who:
        """Say with whom a VM spoke."""
        asked = self._asked(who, span, limit)
        of, path, tenant = await self._vm(asked, vm)
        rows = await self._rows(peers(of, dataclasses.replace(asked, scopes=[tenant])))
        return flowapi.Who(
            vm=path,
            peers=[
                flowapi.PeerRow(
                    peer=row["peer"], direction="egress" if row["mine"] else "ingress", service=service_text(row["protocol"], row["service"]),
                    verdict=verdict_text(row["verdict"]), bytes=row["bytes"], packets=row["packets"], connections=row["connections"], first=moment(row["first"]), last=moment(row["last"]),
                )
                for row in rows
            ],
            more=(rows[0]["rows"] if rows else 0) - len(rows), since=span.since, until=span.until, completeness=await self._complete(who, asked.window),
        )  # fmt: skip

    async def conversations(
        self, who: Caller, span: Span, *, scope: Scope, limit: int
    ) -> tuple[list[dict[str, Any]], dict[int, str], flowapi.Completeness]:
        """Return all kinds of conversations that touch a scope, the texts of their rules, and how complete that is."""
        asked = _within(dataclasses.replace(self._asked(who, span, 1), limit=limit), scope)
        rows = await self._rows(conversations(asked))
        return rows, await self._rules(rows), await self._complete(who, asked.window)

    # What all of them need

    def _asked(self, who: Caller, span: Span, limit: int) -> Asked:
        scopes = seen_by(who)
        since, until = int(span.since.timestamp()), int(span.until.timestamp())
        if not 0 <= since < until or until - since > _LONGEST_SECONDS:
            raise invalid("since", "the time asked for must end after it begins, and be at most ten years long")
        return Asked(
            window=Window(since=since, until=until),
            narrowed=_filter(span.narrowed),
            scopes=scopes,
            seen=scopes,
            limit=max(1, min(limit, MOST_ROWS)),
        )

    async def _vm(self, asked: Asked, name: str) -> tuple[Clause, str, Scope]:
        """Find a VM, as it is and was: its numbers, its path, and its tenant's scope."""
        found = [row for row in await self._rows(numbers_of(name)) if is_within(row["scope"], asked.seen)]
        paths = sorted({row["path"] for row in found})
        if not paths:
            raise NotFoundError(
                f"no traffic of a VM {name!r} is on record: write its name, or its path such as /acme/shop:web-1"
            )
        if len(paths) > 1:
            raise invalid(
                "vm",
                f"there are several VMs {name!r}: say which, by its path: {', '.join(paths[:_FEW])}{', ...' if len(paths) > _FEW else ''}",
            )
        tenant = found[0]["tenant"]
        return (
            Clause(sql="{vms:Array(UInt64)}", parameters={"vms": [row["number"] for row in found]}),
            paths[0],
            Scope(f"/{tenant}") if tenant else ROOT,
        )

    async def _rows(self, statement: Statement) -> list[dict[str, Any]]:
        try:
            found = await self._traffic.store.ask(statement.sql, statement.parameters)
        except QuestionError as error:
            raise invalid("question", f"{error}: ask about less time, or fewer records") from error
        except EngineError as error:
            raise UnavailableError(str(error), retry_seconds=2) from error
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    async def _named(self, table: str, numbers: Iterable[int]) -> list[dict[str, Any]]:
        wanted = set(numbers) - {0}
        return await self._rows(names_of(table, wanted)) if wanted else []

    async def _rules(self, rows: Sequence[Row]) -> dict[int, str]:
        return {row["number"]: row["text"] for row in await self._named("rules", (row["rule"] for row in rows))}

    async def _complete(self, who: Caller, window: Window) -> flowapi.Completeness:
        return completeness(await self._coverage(window), begins=await self._begins(window), names=may_see_hosts(who))

    async def _coverage(self, window: Window) -> Coverage:
        now = self._clock().timestamp()
        rows = [Told(**row) for row in await self._rows(told(window))]
        lately = Statement(
            sql="SELECT host, min(toUInt32(c.first)) AS first FROM coverage_1h AS c WHERE t >= toDateTime({early:UInt32}) AND t < toDateTime({until:UInt32}) GROUP BY host",
            parameters={"early": max(0, window.since - _HOSTS_SECONDS), "until": window.until},
        )
        expected = {row["host"]: float(row["first"]) for row in await self._rows(lately)}
        return coverage(window, rows, expected, now)

    async def _begins(self, window: Window) -> float | None:
        """Say since when anything is on record, where that is after the window begins."""
        first = await self._rows(
            Statement(
                sql="SELECT toUInt32(min(c.first)) AS first FROM coverage_1h AS c WHERE t = (SELECT t FROM coverage_1h ORDER BY t LIMIT 1)",
                parameters={},
            )
        )
        begins = first[0]["first"] if first else 0
        return float(begins) if begins > window.since + SILENT_SECONDS else None


def seen_by(who: Caller) -> list[Scope] | None:
    """Return the scopes whose traffic somebody may see; None: everything.

    Raises:
        ForbiddenError: there is none.
    """
    scopes = sorted(
        {
            grant.scope
            for grant in (*who.grants, *(who.within or ()))
            if not isinstance(decide(who, Verb.READ, Subject(scope=grant.scope)), Refused)
        }
    )
    if not scopes:
        raise ForbiddenError("your roles do not let you see traffic: a viewer may")
    return None if ROOT in scopes else scopes


def _within(asked: Asked, scope: Scope) -> Asked:
    """Ask about one scope, as far as it is to be seen."""
    if scope == ROOT:
        return asked
    if asked.seen is not None and not any(each.contains(scope) or scope.contains(each) for each in asked.seen):
        raise ForbiddenError(f"you may not see traffic in {scope}")
    inside = (
        [scope]
        if asked.seen is None
        else [
            each if scope.contains(each) else scope
            for each in asked.seen
            if each.contains(scope) or scope.contains(each)
        ]
    )
    return dataclasses.replace(asked, scopes=inside)


def _filter(text: str) -> Filter | None:
    if not text.strip():
        return None
    try:
        return parse(text)
    except FilterError as error:
        raise InvalidError(f"this is no filter:\n{error}") from error


def _group(text: str, depth: int = 0) -> Group:
    try:
        return Group.of(text or "vm", depth=max(0, min(depth, 32)))
    except GroupError as error:
        raise invalid("group", str(error)) from error


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
