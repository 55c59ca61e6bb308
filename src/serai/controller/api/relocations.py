"""Routes: relocations, moves that one plan made."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Router, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from serai.controller.api.asking import LARGEST, REFUSALS, Service, Who
from serai.controller.api.streams import Opened
from serai.wire import relocationapi

Name: TypeAlias = Annotated[
    str, PathParameter(pattern="^([0-9]{1,9}|[0-9a-f]{32})$", description="The id of a relocation, or its number.")
]


@post(
    "/relocations", status_code=201, summary="Empty hosts, or level a pool", responses=REFUSALS, opt={"patient": True}
)
async def relocate(
    facade: Service, caller: Who, data: JSONBody[relocationapi.RelocationRequest]
) -> relocationapi.RelocationShown:
    """Have a plan made, and carried out by the controller that leads. The answer comes when it is written down."""
    return await facade.relocate(caller, data)


@get("/relocations", opt={"query": frozenset({"before", "limit"})}, summary="List relocations", responses=REFUSALS)
async def list_relocations(
    *,
    facade: Service,
    caller: Who,
    before: Annotated[
        int | None, QueryParameter(ge=0, le=LARGEST, description="Only those before this number.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> relocationapi.RelocationList:
    """List relocations, the latest first."""
    return await facade.relocations(caller, before=before, limit=limit)


@get(
    "/relocations/{name:str}",
    opt={"patient": True, "query": frozenset({"seen", "timeout"})},
    summary="Show a relocation",
    responses=REFUSALS,
)
async def show_relocation(
    *,
    facade: Service,
    caller: Who,
    streams: Opened,
    name: Name,
    seen: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=LARGEST, description="Its version that is known: wait until it is another, or it is over; the plan is left out."
        ),
    ] = None,
    seconds: Annotated[float, QueryParameter(name="timeout", ge=0, le=600, description="In seconds.")] = 30,
) -> relocationapi.RelocationShown:  # fmt: skip
    """Show how far a relocation has come, with each of its moves that has begun."""
    if seen is None:
        return await facade.relocation(caller, name, seen=None, seconds=0)
    streams.require_room(caller.name)
    with streams.one(caller.name):
        return await facade.relocation(caller, name, seen=seen, seconds=seconds)


@post("/relocations/{name:str}/stop", status_code=200, summary="Stop a relocation", responses=REFUSALS)
async def stop_relocation(
    facade: Service, caller: Who, name: Name, data: JSONBody[relocationapi.StopRequest]
) -> relocationapi.RelocationShown:
    """Have no more moves of a relocation begin; those under way go on to their end."""
    return await facade.stop_relocation(caller, name, data)


relocations = Router(
    "/", route_handlers=[relocate, list_relocations, show_relocation, stop_relocation], tags=["Relocations"]
)
