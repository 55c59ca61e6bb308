"""Routes: moves of VMs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar import Router, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from serai.controller.api.asking import LARGEST, LONGEST, NO_NUL, REFUSALS, Service, Who
from serai.controller.api.streams import Opened
from serai.wire import moveapi

Name: TypeAlias = Annotated[
    str, PathParameter(pattern="^([0-9]{1,9}|[0-9a-f]{32})$", description="The id of a move, or its number.")
]
Text: TypeAlias = Annotated[str | None, QueryParameter(pattern=NO_NUL, max_length=LONGEST)]


@post("/moves", status_code=201, summary="Move a VM", responses=REFUSALS)
async def move_vm(facade: Service, caller: Who, data: JSONBody[moveapi.MoveRequest]) -> moveapi.Move:
    """Have a VM moved to another host. The answer comes when it has begun, waits for others, or cannot be done."""
    return await facade.move_vm(caller, data)


@get(
    "/moves",
    opt={"query": frozenset({"vm", "host", "open", "before", "limit"})},
    summary="List moves",
    responses=REFUSALS,
)
async def list_moves(
    *,
    facade: Service,
    caller: Who,
    vm: Text = None,
    host: Text = None,
    still_open: Annotated[bool, QueryParameter(name="open", description="Only those that are not over.")] = False,
    before: Annotated[
        int | None, QueryParameter(ge=0, le=LARGEST, description="Only those before this number.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> moveapi.MoveList:
    """List moves, the latest first: of a VM, from or to a host, those that are not over."""
    return await facade.moves(caller, vm=vm, host=host, still_open=still_open, before=before, limit=limit)


@get(
    "/moves/{name:str}",
    opt={"patient": True, "query": frozenset({"seen", "timeout"})},
    summary="Show a move",
    responses=REFUSALS,
)
async def show_move(
    *,
    facade: Service,
    caller: Who,
    streams: Opened,
    name: Name,
    seen: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=LARGEST, description="Its version that is known: wait until it is another, or it is over."
        ),
    ] = None,
    seconds: Annotated[float, QueryParameter(name="timeout", ge=0, le=600, description="In seconds.")] = 30,
) -> moveapi.Move:
    """Show how far a move has come, with its receipt when it is over."""
    if seen is None:
        return await facade.move(caller, name, seen=None, seconds=0)
    streams.require_room(caller.name)
    with streams.one(caller.name):
        return await facade.move(caller, name, seen=seen, seconds=seconds)


@post("/moves/{name:str}/abort", status_code=200, summary="Abort a move", responses=REFUSALS)
async def abort_move(facade: Service, caller: Who, name: Name, data: JSONBody[moveapi.AbortRequest]) -> moveapi.Move:
    """Have a move aborted, as long as the guest was not stopped at its source: it runs on there, protected as before."""
    return await facade.abort_move(caller, name, data)


@get(
    "/moves/{name:str}/proof",
    opt={"patient": True, "query": frozenset({"since"})},
    summary="Prove a receipt",
    responses=REFUSALS,
)
async def prove_move(
    facade: Service,
    caller: Who,
    name: Name,
    since: Annotated[int, QueryParameter(ge=0, le=LARGEST, description="The size of a log that was seen before.")] = 0,
) -> moveapi.MoveProof:
    """Prove that the audit log has the receipt of a move that is over, and continues what it was."""
    return await facade.move_proof(caller, name, since=since)


moves = Router("/", route_handlers=[move_vm, list_moves, show_move, abort_move, prove_move], tags=["Moves"])
