"""What happens to every request before its route: an id, who asks, how often, and how long it may take."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import re
import secrets
import time
from typing import Any, Final

import structlog
from litestar import Request
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from serai.controller.api.facade import Facade
from serai.controller.api.meters import Meters
from serai.controller.api.problems import respond
from serai.controller.api.rates import Rates
from serai.controller.errors import MalformedError, NotAuthenticatedError, TooMuchError

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_TOKEN: Final = 4096

_NOBODY: Final = "there is no token in the header Authorization: send `Bearer TOKEN`; `serai login` gets one"
_UNKNOWN: Final = "this token is not known, is over, or was revoked: run `serai login`, or ask for another"

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one caller may ask of a controller."""

    requests_per_second: float = 50
    burst: int = 200
    strangers_per_second: float = 5
    """Of requests without a token, an address."""
    strangers_burst: int = 50
    seconds: float = 30
    """That a request may take, unless it is one that waits."""
    streams: int = 8
    """That one caller may have open at once."""


class Doorkeeper(ASGIMiddleware):
    """Lets requests in. Routes find who asks in ``request.user``."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, service: Facade, limits: Limits, meters: Meters) -> None:
        """Know nobody yet."""
        self._service, self._limits, self._meters = service, limits, meters
        self._known = Rates(per_second=limits.requests_per_second, burst=limits.burst)
        self._strangers = Rates(per_second=limits.strangers_per_second, burst=limits.strangers_burst)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let one request in, or turn it away."""
        request: Request[Any, Any, Any] = Request(scope)
        given = request.headers.get("X-Request-Id", "")
        name = given if _ID.fullmatch(given) else secrets.token_hex(8)
        began, status = time.monotonic(), 0
        structlog.contextvars.bind_contextvars(request_id=name)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableScopeHeaders.from_message(message)
                headers["X-Request-Id"] = name
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        scope["state"]["request_id"] = name
        try:
            await self._admit(request, scope)
            patient = scope["route_handler"].opt.get("patient", False)
            async with asyncio.timeout(None if patient else self._limits.seconds):
                await next_app(scope, receive, answer)
        except Exception as error:  # what routes raise is answered before it gets here
            if status:  # half an answer is out already
                raise
            response = respond(request, error).to_asgi_response(app=None, request=request)
            await response(scope, receive, answer)
        finally:
            seconds = time.monotonic() - began
            self._meters.served(_route(scope), request.method, status, seconds)
            caller = getattr(scope.get("user"), "name", None)
            _log.info(
                "served",
                method=request.method,
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
                who=caller,
            )
            structlog.contextvars.unbind_contextvars("request_id")

    async def _admit(self, request: Request[Any, Any, Any], scope: Scope) -> None:
        """Say who asks, or raise.

        Raises:
            MalformedError: they ask for something that the route does not know.
            NotAuthenticatedError: nobody knows them, and the route is not open to all.
            TooMuchError: they ask too often.
        """
        _know_queries(request, scope)
        scope["user"], scope["auth"] = None, None
        if scope["route_handler"].opt.get("free"):
            return
        now = time.monotonic()
        caller = None
        if not is_open(scope) and (bearer := _bearer(request.headers.get("Authorization"))) is not None:
            caller = await self._service.authenticate(bearer)
        # A wrong token costs what a stranger's request does, so that nobody can try many.
        address = request.client.host if request.client else "?"
        wait = self._known.take(caller.name, now) if caller else self._strangers.take(address, now)
        if wait:
            seconds = math.ceil(wait)
            raise TooMuchError(f"you ask too often: wait for {seconds} s", retry_seconds=seconds)
        if caller is None and not is_open(scope):
            raise NotAuthenticatedError(_UNKNOWN if "Authorization" in request.headers else _NOBODY)
        scope["user"] = caller


def is_open(scope: Scope) -> bool:
    """Say whether a route asks nobody who they are."""
    handler = scope["route_handler"]
    return bool(handler.opt.get("open")) or scope["path"].startswith("/openapi")


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise NotAuthenticatedError("the header Authorization is not `Bearer TOKEN`")
    return token.strip()


def _know_queries(request: Request[Any, Any, Any], scope: Scope) -> None:
    """Refuse what the route would not look at: somebody means something by it."""
    known = scope["route_handler"].opt.get("query")
    if known is None:
        return
    for name in request.query_params:
        if name not in known:
            raise MalformedError(f"{name}: is not known here; known: {', '.join(sorted(known)) or 'none'}")


def _route(scope: Scope) -> str:
    return str(scope.get("path_template", "?"))
