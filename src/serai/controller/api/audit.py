"""Routes: the audit log."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from litestar.params import Parameter
from litestar.response import Stream

from serai.controller.api.asking import LARGEST, REFUSALS, Service, Who
from serai.wire import api


@get(
    "/audit",
    opt={"query": frozenset({"after", "limit", "scope", "verb", "by"})},
    summary="List the audit log",
    responses=REFUSALS,
)
async def list_audit(
    *,
    service: Service,
    who: Who,
    after: Annotated[int | None, Parameter(ge=0, le=LARGEST, description="Behind this number.")] = None,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    in_scope: Annotated[api.Word | None, Parameter(query="scope", description="In this scope, or below it.")] = None,
    verb: api.Word | None = None,
    by: Annotated[api.Word | None, Parameter(description="Who did it.")] = None,
) -> api.AuditPage:
    """List who did what, or tried to, oldest first."""
    return await service.audit(who, after=after, limit=limit, scope=in_scope, verb=verb, by=by)


@get("/audit/checkpoint", summary="Show the latest checkpoint", responses=REFUSALS)
async def checkpoint(service: Service, who: Who) -> api.Checkpoint:
    """Show what the log's tree is now, signed. Whoever keeps it can tell later whether the log was changed."""
    return await service.checkpoint(who)


@get(
    "/audit/export",
    opt={"patient": True},
    media_type="application/jsonl",
    summary="Export the audit log",
    responses=REFUSALS,
)
async def export(service: Service, who: Who) -> Stream:
    """Give the whole log, one record a line, and its checkpoint as the last."""
    return Stream(await service.audit_export(who), media_type="application/jsonl")


@post("/audit/verify", status_code=200, opt={"patient": True}, summary="Verify the audit log", responses=REFUSALS)
async def verify(service: Service, who: Who, data: api.AuditVerifyRequest) -> api.AuditVerdict:
    """Look for anything that was done to the log since these checkpoints, or to any record of it at all."""
    return await service.audit_verify(who, data.checkpoints)


audit = Router("/", route_handlers=[list_audit, checkpoint, export, verify], tags=["Audit"])
