"""``serai placement`` over files, and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_service import FakeService
from serai.cli.main import main
from serai.controller.api.doorkeeper import Limits
from served import served

WORLD = """
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: alpha}
spec: {tags: [pci, ssd]}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: beta}
---
apiVersion: serai.dev/v1
kind: Pool
metadata: {name: west}
spec: {hosts: [alpha]}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: cards, scope: /acme}
spec: {subnets: [10.0.0.0/24], tags: [pci]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: vault, scope: /acme}
spec:
  tags: [pci]
  host: beta
  vnics: [{network: cards, mac: "52:54:00:00:00:01", addresses: [10.0.0.1]}]
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "a.yaml").write_text(WORLD)
    return directory


@pytest.fixture
def in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    service = FakeService({"a.yaml": WORLD})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SERAI_TOKEN", "admin-token")
    with served(service, limits=Limits(burst=10_000, strangers_burst=10_000)) as url:
        monkeypatch.setenv("SERAI_URL", url)
        yield service


def serai(*words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == status, (result.output, result.exception)
    return result


def data(*words: str, status: int = 0) -> Any:
    return json.loads(serai(*words, "--json", status=status).stdout)


def test_what_is_wrong_is_listed_below_what_hosts_can_meet(files: Path) -> None:
    assert serai("placement", "check", str(files), status=1).stdout.splitlines() == [
        "HOST   POOL  TAGS      VMS  TENANTS  AT MOST",
        "alpha  west  pci, ssd    0        0        1",
        "beta   -     -           1        1        0",
        "",
        "1 violation: 1 VM looked at, where they are expected.",
        "/acme:vault on beta: host beta does not carry the tag pci",
    ]
    found = data("placement", "check", str(files), status=1)
    assert found["violations"] == [
        {
            "vm": "/acme:vault", "host": "beta", "kind": "host-lacks-tag", "message": "host beta does not carry the tag pci",
            "tag": "pci", "network": "", "rule": "",
        }
    ]  # fmt: skip


def test_nothing_is_wrong(files: Path) -> None:
    (files / "a.yaml").write_text(WORLD.replace("host: beta", "host: alpha"))
    told = serai("placement", "check", str(files)).stdout
    assert told.endswith("\nNothing is wrong: 1 VM looked at, where they are expected.\n")


def test_files_that_are_not_sound_are_not_checked(files: Path) -> None:
    (files / "b.yaml").write_text("apiVersion: serai.dev/v1\nkind: Host\nmetadata: {name: alpha}\n")
    assert "is defined already" in serai("placement", "check", str(files), status=2).stderr


@pytest.mark.usefixtures("in_force")
def test_what_is_in_force_is_checked_as_files_are(files: Path) -> None:
    asked = serai("placement", "check", status=1).stdout
    assert (
        asked
        == serai("placement", "check", "@", status=1).stdout
        == serai("placement", "check", str(files), status=1).stdout
    )
    assert data("placement", "check", status=1) == {**data("placement", "check", str(files), status=1), "revision": 1}
