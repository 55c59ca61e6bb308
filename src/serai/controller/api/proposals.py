"""Routes: changes that need a second person."""

from __future__ import annotations

from typing import Final

from litestar import Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from serai.controller.api.asking import REFUSALS, PathNumber, Service, Who
from serai.wire import api

_WAITS: Final = {202: ResponseSpec(api.Proposal, description="It needs more people.", generate_examples=False)}


@get("/proposals", summary="List proposals", responses=REFUSALS)
async def list_proposals(facade: Service, caller: Who) -> api.Proposals:
    """List proposals, the latest first."""
    return api.Proposals(proposals=await facade.proposals(caller))


@post("/proposals/{number:int}/approve", status_code=200, responses=REFUSALS | _WAITS, summary="Approve a proposal")
async def approve(
    facade: Service, caller: Who, number: PathNumber, data: JSONBody[api.Vote]
) -> Response[api.Applied | api.Proposal]:
    """Stand behind a proposal as it was seen. It is applied as soon as enough people do."""
    came = await facade.approve(caller, number, data)
    return Response(came, status_code=200 if isinstance(came, api.Applied) else 202)


@post("/proposals/{number:int}/reject", status_code=200, summary="Reject a proposal", responses=REFUSALS)
async def reject(facade: Service, caller: Who, number: PathNumber, data: JSONBody[api.Vote]) -> api.Proposal:
    """Close a proposal; its author may withdraw it so."""
    return await facade.reject(caller, number, data)


proposals = Router("/", route_handlers=[list_proposals, approve, reject], tags=["Proposals"])
