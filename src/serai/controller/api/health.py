"""Routes: whether this controller lives, is ready, and what it counts. They stand outside of ``/v1``."""

from __future__ import annotations

from litestar import MediaType, Response, Router, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import SkipValidation
from prometheus_client import CONTENT_TYPE_LATEST

from serai.controller.api.asking import OPEN, REFUSALS, Service, Who
from serai.controller.api.meters import Meters
from serai.wire import api

_NOT = {503: ResponseSpec(api.Health, description="It is not ready.", generate_examples=False)}


@get("/healthz", responses=REFUSALS, opt=OPEN | {"free": True}, security=[{}], summary="Am I alive?")
async def alive() -> api.Health:
    """Say that this process answers."""
    return api.Health(ok=True, parts={})


@get("/readyz", opt=OPEN, security=[{}], responses=REFUSALS | _NOT, summary="Am I ready?")
async def ready(facade: Service) -> Response[api.Health]:
    """Say whether this controller does what it should; 503 where it does not."""
    health = await facade.health()
    return Response(health, status_code=200 if health.ok else 503)


@get("/metrics", media_type=MediaType.TEXT, responses=REFUSALS, summary="Metrics for Prometheus")
async def metrics(facade: Service, caller: Who, meters: SkipValidation[Meters]) -> Response[bytes]:
    """Count, in Prometheus' text format."""
    text = await facade.metrics(caller) + meters.text()
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


health = Router("/", route_handlers=[alive, ready, metrics], tags=["Health"])
