"""Routes: who somebody is, who there is, and tokens."""

from __future__ import annotations

from litestar import Router, delete, get, post, put
from litestar.params import JSONBody

from serai.controller.api.asking import OPEN, REFUSALS, Asked, PathWord, Service, Who
from serai.controller.errors import InvalidError
from serai.wire import api


@get("/login", opt=OPEN, security=[{}], summary="Say how to log in", responses=REFUSALS)
async def login_ways(facade: Service) -> api.LoginWays:
    """Say how people log in here."""
    return await facade.login_ways()


@post("/login", status_code=200, opt=OPEN, security=[{}], summary="Log in with a password", responses=REFUSALS)
async def login(request: Asked, facade: Service, data: JSONBody[api.Login]) -> api.Token:
    """Give a token for a session to a person who knows their password."""
    return await facade.login(data, _address(request))


@post("/login/oidc", status_code=200, opt=OPEN, security=[{}], summary="Log in with OpenID Connect", responses=REFUSALS)
async def login_oidc(request: Asked, facade: Service, data: JSONBody[api.OidcLogin]) -> api.Token:
    """Give a token for a session to somebody for whom the OpenID provider speaks."""
    return await facade.login_oidc(data.id_token, _address(request))


@get("/whoami", summary="Say who I am", responses=REFUSALS)
async def whoami(facade: Service, caller: Who) -> api.Person:
    """Say who asks, and what they may do."""
    return await facade.whoami(caller)


@get("/people", summary="List people", responses=REFUSALS)
async def list_people(facade: Service, caller: Who) -> api.People:
    """List people, by name."""
    return api.People(people=await facade.people(caller))


@put("/people/{name:str}", status_code=200, summary="Make a person", responses=REFUSALS)
async def put_person(facade: Service, caller: Who, name: PathWord, data: JSONBody[api.PersonRequest]) -> api.Person:
    """Make somebody who may do something, or make them otherwise. Without a password the one that they have stays."""
    if data.name != name:
        raise InvalidError(f"this is about {data.name!r}, and the path names {name!r}")
    return await facade.put_person(caller, data)


@get("/tokens", summary="List tokens", responses=REFUSALS)
async def list_tokens(facade: Service, caller: Who) -> api.Tokens:
    """List one's tokens, without their secrets."""
    return api.Tokens(tokens=await facade.tokens(caller))


@post("/tokens", status_code=201, summary="Make a token", responses=REFUSALS)
async def add_token(facade: Service, caller: Who, data: JSONBody[api.TokenRequest]) -> api.Token:
    """Make a token for oneself. Its secret is told now, and never again."""
    return await facade.add_token(caller, data)


@delete("/tokens/{token:str}", summary="Revoke a token", responses=REFUSALS)
async def revoke_token(facade: Service, caller: Who, token: PathWord) -> None:
    """Make a token worthless, at once."""
    await facade.revoke_token(caller, token)


def _address(request: Asked) -> str:
    return request.client.host if request.client else "?"


people = Router(
    "/",
    route_handlers=[
        login_ways, login, login_oidc, whoami, list_people, put_person, list_tokens, add_token, revoke_token,
    ],
    tags=["People"],
)  # fmt: skip
