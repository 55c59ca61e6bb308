"""What the OpenAPI document promises, asked of a real controller with what nobody in their senses would send."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from sites import Site, site

from serai.wire.profile import find

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance)
LEFT_OUT = frozenset({"/v1/watch"})
"""A stream without an end is tried elsewhere."""


def test_no_request_does_harm(tmp_path: Path) -> None:
    limits = {"requests_per_second": 1e6, "burst": 1000000, "strangers_per_second": 1e6, "strangers_burst": 1000000}
    with site(tmp_path, limits=limits) as at:
        assert at.apply(80) == 1
        _ask_everything(at)
        assert at.process is not None
        assert at.process.poll() is None
        assert at.audit_is_whole()
        assert "Traceback" not in (tmp_path / "log").read_text()


def _ask_everything(at: Site) -> None:
    profile = find({"XDG_CONFIG_HOME": str(at.home / "nowhere")}, at.home / "client.toml")
    ca = str(at.home / "keys" / "ca.pem")
    schema = schemathesis.openapi.from_url(f"{at.url}/openapi/openapi.json", verify=ca)
    asked = 0
    for each in schema.get_all_operations():
        assert isinstance(each, Ok)
        operation = each.ok()
        if operation.path in LEFT_OUT:
            continue

        @settings(
            max_examples=3, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            case.headers["Authorization"] = f"Bearer {profile.token}"
            if case.path == "/v1/wait":
                case.query = {**(case.query or {}), "timeout": 1}
            case.call_and_validate(checks=CHECKS, verify=ca)
            asked += 1

        ask()
    assert asked > 60
