"""What docs/API.md says of the HTTP API is what it is."""

from __future__ import annotations

from collections.abc import Iterator

from litestar.testing import TestClient
from pages import Page

from fake_service import FakeService
from serai.controller.api.app import make_app
from serai.controller.api.asking import LONGEST
from serai.controller.api.doorkeeper import Limits
from serai.controller.api.problems import _NAMES
from serai.controller.api.watch import SILENCE_SECONDS
from serai.controller.errors import ServiceError
from serai.wire.api import BODY_LIMIT

API = Page.read("docs/API.md")


def test_every_route_is_listed_with_what_it_asks_for() -> None:
    with TestClient(make_app(FakeService())) as client:
        paths = client.get("/openapi").json()["paths"]
    known = {
        (f"`{method.upper()} {path}`", "open" if {} in route.get("security", ()) else "yes")
        for path, methods in paths.items()
        for method, route in methods.items()
    }
    listed = [(row[0], row[2]) for row in API.section("Routes").rows()]
    assert sorted(listed) == sorted(known)


def kinds(of: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield of
    for below in of.__subclasses__():
        yield from kinds(below)


def test_every_problem_is_listed_with_its_status() -> None:
    ours = {(f"`{kind.name}`", str(kind.status)) for kind in kinds(ServiceError)}
    others = {(f"`{name}`", str(status)) for status, name in _NAMES.items()}
    assert {(row[0], row[1]) for row in API.section("Errors").rows()} == ours | others


def test_limits_are_those_of_the_code() -> None:
    limits = Limits()
    rows = {row[0]: row[1] for row in API.section("Limits").rows()}
    assert rows["body of a request"] == f"{BODY_LIMIT:,} bytes"
    assert rows["requests of one caller"] == f"{limits.requests_per_second:g} a second, {limits.burst} at once"
    strangers = f"{limits.strangers_per_second:g} a second, {limits.strangers_burst} at once"
    assert rows["requests of one address without a token that is known"] == strangers
    assert rows["time of a request"].startswith(f"{limits.seconds:g} s, ")
    assert rows["streams of one caller"] == str(limits.streams)
    assert rows["a name, a path, a digest"] == f"{LONGEST} characters"
    assert f"at least every {SILENCE_SECONDS:g} s" in API.section("Watching").text
