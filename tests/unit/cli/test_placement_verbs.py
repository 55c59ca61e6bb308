"""``serai placement`` over files, and over HTTP; ``serai pool``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fake_service import FakeService
from serai.controller.api.doorkeeper import Limits
from serai.model.host_facts import Cpu
from serai.wire.placementapi import Admission, Pool, PoolHost, PoolMismatch
from served import served
from typed import data, serai

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


# Pools

LONG_AGO = datetime(2026, 1, 2, tzinfo=UTC)
HASWELL = Cpu(arch="x86_64", vendor="Intel", model="Haswell", features=[])
SKYLAKE = Cpu(arch="x86_64", vendor="Intel", model="Skylake-Server", features=[])


def member(host: str, *mismatches: str, told: datetime | None = LONG_AGO, connected: bool = True) -> PoolHost:
    wrong = [PoolMismatch(about="memory", message=each) for each in mismatches]
    return PoolHost(host=host, told=told, connected=connected, mismatches=wrong)


WEST = Pool(name="west", profile="strict", hosts=[member("alpha")], baseline=["aes"], cpus=[SKYLAKE, HASWELL])
EAST = Pool(name="east", profile="compatible", hosts=[], baseline=[], cpus=[])


def admission(host: str, *mismatches: str, **otherwise: Any) -> Admission:
    wrong = [PoolMismatch(about=each.split()[0], message=each) for each in mismatches]
    plain = Admission(
        revision=1, pool="", profile="strict", host=host, member=False, fits=not wrong, mismatches=wrong, told=LONG_AGO,
        connected=True, baseline=["aes"], unused=[], absent=[],
    )  # fmt: skip
    return msgspec.structs.replace(plain, **otherwise)


def test_pools_are_listed_with_what_does_not_fit(in_force: FakeService) -> None:
    assert serai("pool", "list").stdout == "There are no pools: VMs move between all hosts.\n"
    in_force.known_pools = [EAST, WEST]
    assert serai("pool", "list").stdout.splitlines() == [
        "POOL  PROFILE     HOST   TOLD       FITS",
        "east  compatible  -      -          -   ",
        "west  strict      alpha  connected  yes ",
    ]
    worse = [member("alpha", "has 1 MiB of memory", connected=False), member("beta", "has never told", told=None)]
    in_force.known_pools = [msgspec.structs.replace(WEST, hosts=worse)]
    told = serai("pool", "list", status=1).stdout.splitlines()
    assert told[1].startswith("west  strict   alpha  2026-01-0")
    assert told[2:] == [
        f"{'west  strict   beta   never':<{len(told[1].rstrip()) - 2}}no  ",
        "alpha in west: it has 1 MiB of memory",
        "beta in west: it has never told",
    ]
    assert [each["name"] for each in data("pool", "list", status=1)["pools"]] == ["west"]


def test_a_host_that_fits(in_force: FakeService) -> None:
    in_force.known_pools = [WEST]
    in_force.admissions = {"gamma": admission("gamma"), "alpha": admission("alpha", member=True, unused=["avx", "sha"])}
    assert (
        serai("pool", "admit", "gamma").stdout
        == "gamma fits the pool west (strict): add it to the pool's spec.hosts.\n"
    )
    assert serai("pool", "admit", "alpha").stdout.splitlines() == [
        "alpha fits the pool west (strict): in which it is.",
        "VMs of the pool do not use of its CPU: avx, sha.",
    ]
    assert data("pool", "admit", "gamma")["fits"] is True


def test_a_host_that_does_not_fit_is_told_everything(in_force: FakeService) -> None:
    in_force.known_pools = [EAST, WEST]
    absent = [member("alpha", connected=False), member("beta", told=None, connected=False)]
    in_force.admissions = {
        "gamma": admission("gamma", "memory too", "cpu-model is old", connected=False, absent=absent)
    }
    told = serai("pool", "admit", "gamma", "--pool", "west", status=1).stdout.splitlines()
    assert told[:3] == [
        "gamma does not fit the pool west (strict):", "  memory     it memory too", "  cpu-model  it cpu-model is old",
    ]  # fmt: skip
    assert told[3].startswith("gamma is away: this is what it told 2026-01-0")
    assert told[4].startswith("alpha is away: what it is, it told 2026-01-0")
    assert len(told) == 5
    assert len(data("pool", "admit", "gamma", "--pool", "east", status=1)["mismatches"]) == 2


def test_which_pool_is_meant(in_force: FakeService) -> None:
    assert "there are no pools" in serai("pool", "admit", "gamma", status=2).stderr
    in_force.known_pools = [EAST, WEST]
    in_force.admissions = {"gamma": admission("gamma"), "alpha": admission("alpha", member=True)}
    assert "say --pool NAME: east, west" in serai("pool", "admit", "gamma", status=2).stderr
    assert "fits the pool west" in serai("pool", "admit", "alpha").stdout
    assert "no pool 'south'" in serai("pool", "admit", "alpha", "--pool", "south", status=2).stderr
    assert "nothing is known of host 'delta'" in serai("pool", "admit", "delta", "--pool", "west", status=2).stderr


def test_the_cpu_of_vms_that_move_is_printed_for_libvirt(in_force: FakeService) -> None:
    in_force.known_pools = [EAST, WEST]
    assert "<model fallback='allow'>Haswell</model>" in serai("pool", "baseline", "west").stdout
    assert "no host of the pool east" in serai("pool", "baseline", "east", status=2).stderr
    assert "there is no pool 'south'" in serai("pool", "baseline", "south", status=2).stderr
