"""The application: routes, and what all of them have in common."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from serai.access.decide import Caller
from serai.controller.api.asking import Asked
from serai.controller.api.audit import audit
from serai.controller.api.changes import changes
from serai.controller.api.doorkeeper import Doorkeeper, Limits
from serai.controller.api.facade import Facade
from serai.controller.api.health import health
from serai.controller.api.hosts import hosts
from serai.controller.api.meters import Meters
from serai.controller.api.moves import moves
from serai.controller.api.people import people
from serai.controller.api.placement import placement
from serai.controller.api.plans import plans
from serai.controller.api.problems import respond
from serai.controller.api.proposals import proposals
from serai.controller.api.questions import questions
from serai.controller.api.relocations import relocations
from serai.controller.api.resources import resources
from serai.controller.api.streams import Streams
from serai.controller.api.traffic import traffic
from serai.controller.api.watch import watch
from serai.controller.errors import NotAuthenticatedError
from serai.wire.api import BODY_LIMIT

_BEARER: Final = "token"


def make_app(service: Facade, limits: Limits | None = None) -> Litestar:
    """Make the application that answers for a service."""
    limits = limits or Limits()
    meters = Meters()
    streams = Streams(limits.streams, meters)
    groups = [
        resources,
        changes,
        proposals,
        hosts,
        moves,
        plans,
        relocations,
        placement,
        questions,
        traffic,
        audit,
        people,
        watch,
    ]
    return Litestar(
        [Router("/v1", route_handlers=groups), health],
        dependencies={
            "facade": Provide(lambda: service, sync_to_thread=False),
            "caller": Provide(_who, sync_to_thread=False),
            "meters": Provide(lambda: meters, sync_to_thread=False),
            "streams": Provide(lambda: streams, sync_to_thread=False),
        },
        middleware=[Doorkeeper(service, limits, meters)],
        exception_handlers={Exception: respond},
        request_max_body_size=BODY_LIMIT,
        openapi_config=OpenAPIConfig(
            title="Serai",
            version=_version(),
            description="What a controller of Serai does. Errors are problems (RFC 9457); see docs/API.md.",
            path="/openapi",
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"]), YamlRenderPlugin()],
            components=Components(security_schemes={_BEARER: SecurityScheme(type="http", scheme="bearer")}),
            security=[{_BEARER: []}],
        ),
        logging_config=None,
        debug=False,
    )


def _who(request: Asked) -> Caller:
    if request.user is None:
        raise NotAuthenticatedError("this needs a token")
    return request.user


def _version() -> str:
    try:
        return version("serai")
    except PackageNotFoundError:
        return "0"
