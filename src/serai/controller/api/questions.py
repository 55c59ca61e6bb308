"""Routes: questions about what is in force, answered as ``serai can`` and its like do."""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody

from serai.controller.api.asking import REFUSALS, Service, Who
from serai.wire import api


@post("/ask/can", status_code=200, summary="Can this reach that?", responses=REFUSALS)
async def can(facade: Service, caller: Who, data: JSONBody[api.Question]) -> api.Answer:
    """Say whether one machine can open a connection to another, and by which rules."""
    return await facade.can(caller, data)


@post("/ask/reach", status_code=200, summary="Who can reach whom?", responses=REFUSALS)
async def reach(facade: Service, caller: Who, data: JSONBody[api.ReachQuestion]) -> api.Answer:
    """List who can open what to whom."""
    return await facade.reach(caller, data)


@post("/ask/diff", status_code=200, summary="What would a change open and close?", responses=REFUSALS)
async def diff(facade: Service, caller: Who, data: JSONBody[api.ChangeRequest]) -> api.Answer:
    """List the connections that a change would open and close."""
    return await facade.diff(caller, data)


questions = Router("/", route_handlers=[can, reach, diff], tags=["Questions"])
