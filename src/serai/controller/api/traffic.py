"""Routes: traffic that was recorded, by records, lists of the most, trends, maps and peers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

from litestar import Router, get, post
from litestar.params import JSONBody, QueryParameter

from serai.controller.api.asking import NO_NUL, REFUSALS, Service, Who
from serai.controller.errors import InvalidError
from serai.controller.requests import invalid
from serai.controller.traffic.asking import MOST_ROWS, Span
from serai.wire import flowapi

_HOUR: Final = timedelta(hours=1)

Moment: TypeAlias = Annotated[
    str | None, QueryParameter(pattern=NO_NUL, max_length=64, description="RFC 3339, with a zone.")
]
Narrow: TypeAlias = Annotated[
    str,
    QueryParameter(name="filter", pattern=NO_NUL, max_length=2000, description="Which records; see docs/FLOWS.md."),
]
Rows: TypeAlias = Annotated[int, QueryParameter(ge=1, le=MOST_ROWS)]
Text: TypeAlias = Annotated[str, QueryParameter(pattern=NO_NUL, max_length=512)]


@get("/flows", summary="List records of traffic", responses=REFUSALS)
async def flows(
    *, facade: Service, caller: Who, since: Moment = None, until: Moment = None, narrow: Narrow = "", limit: Rows = 100, after: Annotated[str | None, QueryParameter(pattern=NO_NUL, max_length=64)] = None
) -> flowapi.FlowPage:  # fmt: skip
    """List single records, the latest first, page by page."""
    return await facade.flows(caller, _span(since, until, narrow), limit=limit, after=after)


@get("/top", summary="List the most of something", responses=REFUSALS)
async def top(
    *, facade: Service, caller: Who, by: Text = "talkers", group: Text = "vm", since: Moment = None, until: Moment = None, narrow: Narrow = "", limit: Rows = 20
) -> flowapi.Top:  # fmt: skip
    """List who sends or receives most, the busiest pairs, protocols and services, and what is denied most."""
    return await facade.top(caller, _span(since, until, narrow), by=by, group=group, limit=limit)


@get("/trends", summary="How did traffic go?", responses=REFUSALS)
async def trends(
    *, facade: Service, caller: Who, of: Text = "/", by: Text = "protocol", since: Moment = None, until: Moment = None, narrow: Narrow = "",
    steps: Annotated[int, QueryParameter(ge=1, le=1000)] = 60,
) -> flowapi.Trend:  # fmt: skip
    """Say, step by step, how the traffic of a VM or of a scope went."""
    return await facade.trend(caller, _span(since, until, narrow), of=of, by=by, steps=steps)


@get("/map", summary="Which groups talk to which?", responses=REFUSALS)
async def service_map(
    *, facade: Service, caller: Who, within: Annotated[str, QueryParameter(name="scope", pattern=NO_NUL, max_length=512)] = "/", group: Text = "scope", depth: Annotated[int, QueryParameter(ge=0, le=32)] = 0,
    since: Moment = None, until: Moment = None, narrow: Narrow = "", limit: Rows = 200,
) -> flowapi.ServiceMap:  # fmt: skip
    """Draw a map of who opens what to whom, in groups; a scope zooms in, a depth zooms out."""
    return await facade.service_map(
        caller, _span(since, until, narrow), scope=within, group=group, depth=depth, limit=limit
    )


@get("/who", summary="With whom did a VM speak?", responses=REFUSALS)
async def who(
    *, facade: Service, caller: Who, vm: Text, since: Moment = None, until: Moment = None, limit: Rows = 200
) -> flowapi.Who:
    """List the peers and services of a VM, with the first and last time that each was seen."""
    return await facade.spoke(caller, _span(since, until, ""), vm=vm, limit=limit)


@get("/drops", summary="What was dropped, and why?", responses=REFUSALS)
async def drops(
    *, facade: Service, caller: Who, of: Text = "/", since: Moment = None, until: Moment = None, limit: Rows = 100
) -> flowapi.Drops:
    """List what the gates of a VM, or of all that is in a scope, dropped: by reason, and by gate."""
    return await facade.drops(caller, _span(since, until, ""), of=of, limit=limit)


@get("/sightings", summary="What did a link need?", responses=REFUSALS)
async def sightings(
    *, facade: Service, caller: Who, vm: Text, since: Moment = None, until: Moment = None
) -> flowapi.Sightings:
    """List what gates saw of the messages that the links of a VM need: ARP, neighbor discovery, DHCP."""
    return await facade.sightings(caller, _span(since, until, ""), vm=vm)


@post("/suggest", status_code=200, summary="Write policies from traffic", responses=REFUSALS)
async def suggest(*, facade: Service, caller: Who, data: JSONBody[flowapi.SuggestRequest]) -> flowapi.Suggestion:
    """Write the least policy that admits what was seen of the VMs of a scope."""
    return await facade.suggest(caller, data)


@post("/whatif", status_code=200, summary="Replay traffic against other policies", responses=REFUSALS)
async def whatif(*, facade: Service, caller: Who, data: JSONBody[flowapi.WhatIfRequest]) -> flowapi.WhatIf:
    """Replay what was seen against other policies, and list what would newly be denied or allowed."""
    return await facade.whatif(caller, data)


def _span(since: str | None, until: str | None, narrow: str) -> Span:
    end = _moment("until", until) if until else datetime.now(UTC)
    return Span(since=_moment("since", since) if since else end - _HOUR, until=end, narrowed=narrow)


def _moment(field: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _no_moment(field, text) from None
    if found.tzinfo is None:
        raise _no_moment(field, text)
    return found.astimezone(UTC)


def _no_moment(field: str, text: str) -> InvalidError:
    return invalid(field, f"{text!r} is no time: write it as 2026-11-24T14:00:00Z")


traffic = Router(
    "/",
    route_handlers=[flows, top, trends, service_map, who, drops, sightings, suggest, whatif],
    tags=["Traffic"],
)
"""All of them."""
