"""Routes: where VMs may run, and which hosts fit which pool."""

from __future__ import annotations

from litestar import Router, get

from serai.controller.api.asking import REFUSALS, PathWord, Service, Who
from serai.wire import placementapi


@get("/placement", summary="Check where VMs are", responses=REFUSALS)
async def check(facade: Service, caller: Who) -> placementapi.PlacementReport:
    """Say what is wrong about where VMs are, of those that you may see; and, where you may see hosts, whom each can meet."""
    return await facade.placement(caller)


@get("/pools", summary="List pools", responses=REFUSALS)
async def list_pools(facade: Service, caller: Who) -> placementapi.Pools:
    """List pools, by name, and which of their hosts do not fit, as far as hosts have told what they are made of."""
    return await facade.pools(caller)


@get("/pools/{name:str}/admission/{host:str}", summary="Check whether a host fits a pool", responses=REFUSALS)
async def admission(facade: Service, caller: Who, name: PathWord, host: PathWord) -> placementapi.Admission:
    """Say in what a host does not fit a pool, whether it is in it or not."""
    return await facade.admission(caller, name, host)


placement = Router("/", route_handlers=[check, list_pools, admission], tags=["Placement"])
