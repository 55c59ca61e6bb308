"""Routes: changes, what they would do, and their history."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from serai.controller.api.asking import LARGEST, REFUSALS, PathNumber, Service, Who
from serai.wire import api

_PROPOSED: Final = {
    202: ResponseSpec(api.Proposed, description="It waits for a second person.", generate_examples=False)
}


@post("/plan", status_code=200, summary="Plan a change", responses=REFUSALS)
async def plan(facade: Service, caller: Who, data: JSONBody[api.ChangeRequest]) -> api.Plan:
    """Say what a change would do, and do nothing."""
    return await facade.plan(caller, data)


@post("/apply", status_code=200, responses=REFUSALS | _PROPOSED, summary="Make a change")
async def apply(
    facade: Service, caller: Who, data: JSONBody[api.ChangeRequest]
) -> Response[api.Applied | api.Proposed]:
    """Make a change, whole or not at all."""
    return outcome(await facade.apply(caller, data))


@post("/rollback", status_code=200, responses=REFUSALS | _PROPOSED, summary="Go back to a revision")
async def rollback(
    facade: Service, caller: Who, data: JSONBody[api.RollbackRequest]
) -> Response[api.Applied | api.Proposed]:
    """Make everything as it was at a revision, by a new one."""
    return outcome(await facade.rollback(caller, data))


@get("/revisions", opt={"query": frozenset({"before", "limit"})}, summary="List revisions", responses=REFUSALS)
async def list_revisions(
    facade: Service,
    caller: Who,
    before: Annotated[int | None, QueryParameter(ge=0, le=LARGEST)] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 50,
) -> api.Revisions:
    """List the changes that were made, the latest first."""
    found = await facade.revisions(caller, before=before, limit=limit)
    more = len(found) == limit and found[-1].number > 1
    return api.Revisions(revisions=found, before=found[-1].number if more else None)


@get("/revisions/{number:int}", summary="Show a revision", responses=REFUSALS)
async def show_revision(facade: Service, caller: Who, number: PathNumber) -> api.Revision:
    """Show one change that was made."""
    return await facade.revision(caller, number)


@post("/revisions/{number:int}/confirm", status_code=200, summary="Confirm a revision", responses=REFUSALS)
async def confirm(facade: Service, caller: Who, number: PathNumber) -> api.Revision:
    """Let a change stand that would be rolled back otherwise."""
    return await facade.confirm(caller, number)


def outcome(of: api.Applied | api.Proposed) -> Response[api.Applied | api.Proposed]:
    """Answer with what became of a change."""
    return Response(of, status_code=200 if isinstance(of, api.Applied) else 202)


changes = Router("/", route_handlers=[plan, apply, rollback, list_revisions, show_revision, confirm], tags=["Changes"])
