"""Routes: plans of moves."""

from __future__ import annotations

from litestar import Router, post
from litestar.params import JSONBody

from serai.controller.api.asking import PATIENT, REFUSALS, Service, Who
from serai.wire import planapi


@post("/plans", status_code=200, opt=PATIENT, summary="Plan moves", responses=REFUSALS)
async def plan_moves(facade: Service, caller: Who, data: JSONBody[planapi.PlanRequest]) -> planapi.PlanReply:
    """Say who would move where, in which order, so that hosts become empty or those of a pool equally full; and who cannot, and why. Nothing is done."""
    return await facade.plan_moves(caller, data)


plans = Router("/", route_handlers=[plan_moves], tags=["Moves"])
