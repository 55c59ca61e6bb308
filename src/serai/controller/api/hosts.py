"""Routes: hosts, where they stand, and how they join."""

from __future__ import annotations

from typing import Annotated

from litestar import MediaType, Response, Router, get, post
from litestar.params import JSONBody, QueryParameter

from serai.controller.api.asking import LARGEST, OPEN, REFUSALS, PathWord, Service, Who
from serai.wire import api


@get("/status", summary="Say where everything stands", responses=REFUSALS)
async def status(facade: Service, caller: Who) -> api.Status:
    """Say what is in force, and which hosts hold it."""
    return await facade.status(caller)


@get(
    "/wait",
    opt={"patient": True, "query": frozenset({"revision", "timeout"})},
    summary="Wait until hosts hold a revision",
    responses=REFUSALS,
)
async def wait(
    facade: Service,
    caller: Who,
    revision: Annotated[int, QueryParameter(ge=0, le=LARGEST)],
    seconds: Annotated[float, QueryParameter(name="timeout", ge=0, le=600, description="In seconds.")] = 30,
) -> api.Status:
    """Wait until all hosts that are connected hold a revision, or the time is over; say which."""
    return await facade.wait(caller, revision, seconds)


@get("/hosts", summary="List hosts", responses=REFUSALS)
async def list_hosts(facade: Service, caller: Who) -> api.Hosts:
    """List hosts, by name."""
    return api.Hosts(hosts=(await facade.status(caller)).hosts)


@get("/hosts/{name:str}", summary="Show a host", responses=REFUSALS)
async def show_host(facade: Service, caller: Who, name: PathWord) -> api.HostStatus:
    """Say where one host stands, with its gates."""
    return await facade.host(caller, name)


@post("/hosts/{name:str}/revoke", status_code=204, summary="Revoke a host", responses=REFUSALS)
async def revoke_host(facade: Service, caller: Who, name: PathWord) -> None:
    """Make the certificate of a host worthless. Its gates go on with what they have; it is told nothing more."""
    await facade.revoke_host(caller, name)


@post("/join-tokens", status_code=201, summary="Let a host join", responses=REFUSALS)
async def join_token(facade: Service, caller: Who, data: JSONBody[api.JoinTokenRequest]) -> api.JoinToken:
    """Make a token with which one host can join, once."""
    return await facade.join_token(caller, data)


@post("/join", status_code=200, opt=OPEN, security=[{}], summary="Join", responses=REFUSALS)
async def join(facade: Service, data: JSONBody[api.JoinRequest]) -> api.Certificate:
    """Take in a host that shows a join token."""
    return await facade.join(data)


@post("/renew", status_code=200, opt=OPEN, security=[{}], summary="Renew a host's certificate", responses=REFUSALS)
async def renew(facade: Service, data: JSONBody[api.RenewRequest]) -> api.Certificate:
    """Give a host another certificate that proves to have the key of its last one."""
    return await facade.renew(data)


@get("/ca", opt=OPEN, security=[{}], media_type=MediaType.TEXT, summary="Get the CA's certificate", responses=REFUSALS)
async def ca(facade: Service) -> Response[str]:
    """Get the certificate of the site's CA. Compare its hash with what you were told on another way."""
    return Response(await facade.ca(), media_type=MediaType.TEXT)


hosts = Router(
    "/",
    route_handlers=[status, wait, list_hosts, show_host, revoke_host, join_token, join, renew, ca],
    tags=["Hosts"],
)
