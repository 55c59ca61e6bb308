"""Routes: where VMs may run."""

from __future__ import annotations

from litestar import Router, get

from serai.controller.api.asking import REFUSALS, Service, Who
from serai.wire import placementapi


@get("/placement", summary="Check where VMs are", responses=REFUSALS)
async def check(facade: Service, caller: Who) -> placementapi.PlacementReport:
    """Say what is wrong about where VMs are, of those that you may see; and, where you may see hosts, whom each can meet."""
    return await facade.placement(caller)


placement = Router("/", route_handlers=[check], tags=["Placement"])
