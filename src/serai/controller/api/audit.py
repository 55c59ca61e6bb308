"""Routes: the audit log."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.response import Stream

from serai.controller.api.asking import LARGEST, LONGEST, NO_NUL, REFUSALS, Service, Who
from serai.wire import api


@get(
    "/audit",
    opt={"query": frozenset({"after", "limit", "scope", "verb", "by"})},
    summary="List the audit log",
    responses=REFUSALS,
)
async def list_audit(
    *,
    facade: Service,
    caller: Who,
    after: Annotated[int | None, QueryParameter(ge=0, le=LARGEST, description="Behind this number.")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    in_scope: Annotated[
        str | None,
        QueryParameter(pattern=NO_NUL, max_length=LONGEST, name="scope", description="In this scope, or below it."),
    ] = None,
    verb: Annotated[str | None, QueryParameter(pattern=NO_NUL, max_length=LONGEST)] = None,
    by: Annotated[str | None, QueryParameter(pattern=NO_NUL, max_length=LONGEST, description="Who did it.")] = None,
) -> api.AuditPage:
    """List who did what, or tried to, oldest first."""
    return await facade.audit(caller, after=after, limit=limit, scope=in_scope, verb=verb, by=by)


@get("/audit/checkpoint", summary="Show the latest checkpoint", responses=REFUSALS)
async def checkpoint(facade: Service, caller: Who) -> api.Checkpoint:
    """Show what the log's tree is now, signed. Whoever keeps it can tell later whether the log was changed."""
    return await facade.checkpoint(caller)


@get(
    "/audit/export",
    opt={"patient": True},
    media_type="application/jsonl",
    summary="Export the audit log",
    responses=REFUSALS,
)
async def export(facade: Service, caller: Who) -> Stream:
    """Give the whole log, one record a line, and its checkpoint as the last."""
    return Stream(await facade.audit_export(caller), media_type="application/jsonl")


@post("/audit/verify", status_code=200, opt={"patient": True}, summary="Verify the audit log", responses=REFUSALS)
async def verify(facade: Service, caller: Who, data: JSONBody[api.AuditVerifyRequest]) -> api.AuditVerdict:
    """Look for anything that was done to the log since these checkpoints, or to any record of it at all."""
    return await facade.audit_verify(caller, data.checkpoints)


audit = Router("/", route_handlers=[list_audit, checkpoint, export, verify], tags=["Audit"])
