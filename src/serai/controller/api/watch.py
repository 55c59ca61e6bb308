"""Routes: what changes, as it does."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Router, get
from litestar.params import QueryParameter
from litestar.response import Stream

from serai.controller.api.asking import LARGEST, REFUSALS, Service, Who
from serai.controller.api.streams import Opened

SILENCE_SECONDS: Final = 15.0
"""After this long without a change an empty line says that the connection lives."""


@get(
    "/watch",
    opt={"patient": True, "query": frozenset({"since"})},
    media_type="application/jsonl",
    summary="Watch revisions",
    responses=REFUSALS,
)
async def watch_revisions(
    facade: Service, caller: Who, streams: Opened, since: Annotated[int, QueryParameter(ge=0, le=LARGEST)]
) -> Stream:
    """Tell every revision after one, a line each, for ever. Only what one may read is told; empty lines mean nothing."""
    streams.require_room(caller.name)
    lines = streams.lines(caller.name, facade.watch(caller, since), SILENCE_SECONDS)
    return Stream(lines, media_type="application/jsonl")


watch = Router("/", route_handlers=[watch_revisions], tags=["Changes"])
