"""What the OpenAPI document promises, tried with what nobody in their senses would send."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fake_service import FakeService
from serai.controller.api.app import make_app
from serai.controller.api.doorkeeper import Limits

WORLD = {
    "a.yaml": """
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Service
metadata: {name: web, scope: /acme}
spec: {ports: [tcp/80]}
"""
}
ENDLESS = Limits(requests_per_second=1e9, burst=10**9, strangers_per_second=1e9, strangers_burst=10**9)
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

schema = schemathesis.openapi.from_asgi("/openapi/openapi.json", make_app(FakeService(WORLD), ENDLESS))


# A stream without an end is tried in test_api_watch.py.
@schema.exclude(path="/v1/watch").parametrize()
@settings(
    max_examples=4, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_no_request_does_harm(case: schemathesis.Case) -> None:
    case.headers["Authorization"] = "Bearer admin-token"
    case.call_and_validate(checks=CHECKS)
