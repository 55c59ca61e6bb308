"""What all routes have in common: who asks, how often, how much, how long; and how the answer is no."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from fake_service import FakeService
from serai.controller.api.app import make_app
from serai.controller.api.doorkeeper import Limits
from serai.controller.errors import ServiceError, UnavailableError
from serai.wire import api

TENANT = {"apiVersion": "serai.dev/v1", "kind": "Tenant", "metadata": {"name": "acme"}}
POLICY = {
    "apiVersion": "serai.dev/v1",
    "kind": "Service",
    "metadata": {"name": "web", "scope": "/acme"},
    "spec": {"ports": ["tcp/80"]},
}


@pytest.fixture
def service() -> FakeService:
    return FakeService({"a.yaml": json.dumps(TENANT)})


@pytest.fixture
def client(service: FakeService) -> Iterator[TestClient[Litestar]]:
    with serving(service) as made:
        yield made


def serving(service: FakeService, limits: Limits | None = None) -> TestClient[Litestar]:
    made = TestClient(make_app(service, limits), raise_server_exceptions=False)
    made.headers["Authorization"] = "Bearer admin-token"
    return made


def problem(response: object, status: int, name: str) -> api.Problem:
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    assert response.headers["x-request-id"]  # type: ignore[attr-defined]
    found = msgspec.json.decode(response.content, type=api.Problem)  # type: ignore[attr-defined]
    assert (found.type, found.status) == (f"urn:serai:problem:{name}", status)
    assert found.title
    assert found.detail
    return found


# Who asks

OPEN = {"/healthz", "/readyz", "/v1/ca", "/v1/join", "/v1/login", "/v1/login/oidc", "/v1/renew"}


def test_nothing_is_told_to_strangers_but_what_is_open_to_all(service: FakeService) -> None:
    client = serving(service, Limits(strangers_burst=10_000))
    del client.headers["Authorization"]
    paths = client.get("/openapi/openapi.json").json()["paths"]
    tried = 0
    for path, methods in paths.items():
        for method in methods:
            for headers in ({}, {"Authorization": "Bearer nobody's"}, {"Authorization": "Basic YTpi"}):
                response = client.request(method.upper(), path.replace("{number}", "1"), headers=headers, json={})
                if path in OPEN:
                    assert response.status_code != 401 or "token" not in response.json()["detail"], path
                else:
                    assert response.headers["www-authenticate"] == 'Bearer realm="serai"'
                    problem(response, 401, "not-authenticated")
                    tried += 1
    assert tried > 100


def test_what_is_open_does_not_ask_the_database_who_asks(service: FakeService) -> None:
    async def away(bearer: str) -> None:
        raise UnavailableError(f"the database does not answer about {bearer}")

    service.authenticate = away  # type: ignore[method-assign,assignment]
    service.sick = {"database": "does not answer"}
    with serving(service) as client:
        assert client.get("/healthz").json()["ok"] is True
        response = client.get("/readyz")
        assert (response.status_code, response.json()["parts"]) == (503, {"database": "does not answer"})
        problem(client.get("/v1/status"), 503, "unavailable")


def test_what_one_may_not_do_is_a_problem(client: TestClient[Litestar]) -> None:
    client.headers["Authorization"] = "Bearer viewer-token"
    assert "eve" in problem(client.get("/v1/audit"), 403, "forbidden").detail
    problem(client.get("/metrics"), 403, "forbidden")


# Errors


def test_every_error_is_a_problem(client: TestClient[Litestar]) -> None:
    problem(client.get("/v1/nothing"), 404, "no-route")
    problem(client.get("/v1/revisions/x"), 404, "no-route")
    problem(client.get("/v1/revisions/99"), 404, "not-found")
    problem(client.get("/v1/resources/Bogus/x"), 404, "not-found")
    problem(client.delete("/v1/status"), 405, "no-method")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b'{"base": "x"}', "base", "Expected"),
        (b'{"base": -1}', "base", ">= 0"),
        (b'{"base": 9223372036854775808}', "base", "<= 9223372036854775807"),
        (b'{"base": 1e400}', "", ""),
        (b'{"bogus": 1}', "body", "unknown field `bogus`"),
        (b'{"files": {"a": 1}}', "files[...]", "Expected"),
        (b'{"message": "a\\u0000"}', "message", "Expected"),
        (b'{"message": "\\ud800"}', "", ""),
        (b'{"message": "\xff"}', "", ""),
        (b'{"confirm_seconds": 0}', "confirm_seconds", ">= 1"),
        (b"[]", "body", "Expected"),
        (b"", "body", "there is no body"),
        (b"{", "", ""),
        (b"[" * 100_000, "", ""),
        (b'{"files":' * 100_000, "", ""),
    ],
)
def test_what_is_no_request_is_refused(client: TestClient[Litestar], body: bytes, field: str, said: str) -> None:
    found = problem(client.post("/v1/apply", content=body), 400, "malformed")
    if field:
        [fault] = found.errors
        assert (fault.where, fault.field) == ("body", field)
        assert said in fault.message
        assert said in found.detail


def test_queries_are_looked_at_or_refused(client: TestClient[Litestar]) -> None:
    assert "scop: is not known here" in problem(client.get("/v1/resources?scop=/acme"), 400, "malformed").detail
    for query in ("limit=0", "limit=1001", "limit=x", "scope=%00", "label=a", "kind=Bogus", "kind=%00", "after=%00"):
        problem(client.get(f"/v1/resources?{query}"), 400, "malformed")
    problem(client.get("/v1/revisions/99999999999999999999"), 400, "malformed")


def test_a_bug_says_nothing_of_itself(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(service, "status", bug)
    with serving(service) as client:
        response = client.get("/v1/status", headers={"X-Request-Id": "mine-1"})
        problem(response, 500, "internal")
        assert "secret" not in response.text
        assert response.headers["x-request-id"] == "mine-1"
        assert client.get("/v1/whoami", headers={"X-Request-Id": "\nforged"}).headers["x-request-id"].isalnum()


def test_every_error_of_the_service_has_a_status_and_a_name_of_its_own() -> None:
    def all_of(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from all_of(below)

    kinds = list(all_of(ServiceError))
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert {kind.status for kind in kinds} <= {400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 503}


def test_no_field_of_a_body_is_called_as_what_routes_are_given() -> None:
    # The framework takes an error in such a field for one of its own (500).
    given = {"facade", "caller", "meters", "streams"}
    bodies = [each for each in vars(api).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    assert not given & {field for body in bodies for field in body.__struct_fields__}


# Limits


def test_a_request_that_is_too_large_is_refused(client: TestClient[Litestar]) -> None:
    body = json.dumps({"files": {"a.yaml": "#" * api.BODY_LIMIT}})
    assert "33,554,432" in problem(client.post("/v1/apply", content=body), 413, "too-large").detail


def test_whoever_asks_too_often_waits(service: FakeService) -> None:
    limits = Limits(requests_per_second=0.5, burst=3, strangers_per_second=0.5, strangers_burst=2)
    with serving(service, limits) as client:
        assert [client.get("/v1/whoami").status_code for _ in range(3)] == [200, 200, 200]
        response = client.get("/v1/whoami")
        assert "you ask too often" in problem(response, 429, "too-many").detail
        assert 1 <= int(response.headers["retry-after"]) <= 2
        client.headers["Authorization"] = "Bearer viewer-token"
        assert client.get("/v1/whoami").status_code == 200
        client.headers["Authorization"] = "Bearer guess"
        assert [client.get("/v1/whoami").status_code for _ in range(3)] == [401, 401, 429]
        assert client.get("/v1/ca").status_code == 429
        assert client.get("/healthz").status_code == 200


def test_what_takes_too_long_is_given_up(service: FakeService) -> None:
    service.slow = 5
    with serving(service, Limits(seconds=0.05)) as client:
        response = client.get("/v1/resources")
        assert "took too long" in problem(response, 503, "unavailable").detail
        assert response.headers["retry-after"] == "5"


# Resources


def test_a_resource_has_a_path_and_a_revision(client: TestClient[Litestar], service: FakeService) -> None:
    made = client.put("/v1/resources/Service/acme:web", json=POLICY)
    assert made.json()["revision"] == 2
    for path in ("/acme:web", "acme:web"):
        found = client.get(f"/v1/resources/Service/{path}")
        assert (found.headers["etag"], found.json()["body"]) == ('"2"', POLICY)
    changed = {**POLICY, "spec": {"ports": ["tcp/81"]}}
    assert client.put("/v1/resources/Service/acme:web", json=changed, headers={"If-Match": '"2"'}).status_code == 200
    late = problem(
        client.put("/v1/resources/Service/acme:web", json=POLICY, headers={"If-Match": '"2"'}), 412, "precondition"
    )
    assert late.errors[0].resource == "Service /acme:web"
    problem(client.delete("/v1/resources/Service/acme:web", headers={"If-Match": '"2"'}), 412, "precondition")
    problem(client.delete("/v1/resources/Service/acme:web", headers={"If-Match": "x"}), 400, "malformed")
    assert client.delete("/v1/resources/Service/acme:web", headers={"If-Match": '"3"'}).status_code == 200
    problem(client.get("/v1/resources/Service/acme:web"), 404, "not-found")
    assert list(service.in_force) == [("Tenant", "acme")]


def test_a_resource_is_put_where_it_belongs(client: TestClient[Litestar]) -> None:
    for path in ("Service/acme:other", "Tenant/web", "Service/web"):
        problem(client.put(f"/v1/resources/{path}", json=POLICY), 422, "invalid")
    problem(client.put("/v1/resources/Service/acme:web", json={"kind": 1}), 422, "invalid")


def test_what_is_stale_conflicts(client: TestClient[Litestar]) -> None:
    body = {"files": {"a.yaml": json.dumps({**TENANT, "metadata": {"name": "acme"}})}, "base": 0}
    assert problem(client.post("/v1/apply", json=body), 409, "stale").errors


def test_what_needs_a_second_person_is_accepted_and_not_done(
    client: TestClient[Litestar], service: FakeService
) -> None:
    service.needs = 2
    response = client.put("/v1/resources/Service/acme:web", json=POLICY)
    assert (response.status_code, response.json()["proposal"]) == (202, 1)
    problem(client.post("/v1/proposals/1/approve", json={"digest": "another"}), 409, "proposal")


def test_lists_go_on_where_they_ended(client: TestClient[Litestar]) -> None:
    for number in range(5):
        document = {**TENANT, "metadata": {"name": f"t{number}"}}
        client.put(f"/v1/resources/Tenant/t{number}", json=document)
    before = None
    found = []
    for _ in itertools.count():
        page = client.get("/v1/revisions", params={"limit": 4} | ({"before": before} if before else {})).json()
        found += [each["number"] for each in page["revisions"]]
        before = page["before"]
        if before is None:
            break
    assert found == [6, 5, 4, 3, 2, 1]


# What is counted


def test_requests_are_counted(client: TestClient[Litestar]) -> None:
    client.get("/v1/revisions/1")
    client.get("/v1/revisions/77")
    text = client.get("/metrics").text
    assert "serai_revision 1.0" in text
    line = 'serai_http_requests_total{method="GET",route="/v1/revisions/{number}",status="%d"} 1.0'
    assert line % 200 in text
    assert line % 404 in text


def test_two_apps_count_for_themselves() -> None:
    for _ in range(2):
        with serving(FakeService()) as client:
            client.get("/v1/whoami")
            assert 'route="/v1/whoami",status="200"} 1.0' in client.get("/metrics").text


# Streams


def test_revisions_are_told_as_they_are_made(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serai.controller.api.watch.SILENCE_SECONDS", 0.01)

    async def some(_: object, since: int) -> object:
        yield service.made[since]
        await asyncio.sleep(0.05)
        raise UnavailableError("the database does not answer")

    service.watch = some  # type: ignore[method-assign,assignment]
    with serving(service) as client:
        response = client.get("/v1/watch?since=0")
        told = [json.loads(line) for line in response.text.splitlines() if line]
        assert response.headers["content-type"] == "application/jsonl"
        assert [told[0]["number"], told[1]["type"]] == [1, "urn:serai:problem:unavailable"]
        assert response.text.count("\n\n") > 1
        assert "serai_http_streams 0.0" in client.get("/metrics").text


def test_the_log_is_exported_as_lines(client: TestClient[Litestar]) -> None:
    response = client.get("/v1/audit/export")
    assert response.text == '{"seq": 0}\n'
