"""The benchmark of the compiler, on a data center that fits into a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import growth, ovn, serai_compile
from bench.compile import VNICS
from bench.ours import told
from serai.model.ruleset import HostRuleset


def figures(*options: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(told("--ports", "1600", "--changes", "3", *options))
    return found


def test_it_tells_all_that_is_set_beside_ovn(tmp_path: Path) -> None:
    file = tmp_path / "ruleset"
    found = figures("--write", str(file))
    assert ovn.figures(json.dumps(found)).keys() == set(ovn._FIGURES)
    assert (found["edit_hosts"], found["global_hosts"]) == (4, 4), "a tenant has four VMs, on four hosts at the most"
    assert 1 <= found["move_hosts"] <= 2
    ruleset = HostRuleset.decode(file.read_bytes())
    assert len(file.read_bytes()) >= found["host_bytes"] > 0
    assert len(ruleset.vnics) == 400


def test_the_same_data_center_has_the_same_digest_and_another_has_not() -> None:
    one, same, other = figures(), figures("--changes", "0"), figures("--shapes")
    assert one["digest"] == same["digest"] != other["digest"]


def test_a_data_center_has_as_many_vnics_as_it_is_asked_for() -> None:
    for ports in (1600, 16_000, 64_000, VNICS):
        scale = serai_compile.scale(ports)
        assert scale.hosts * scale.vms * scale.vnics == ports
    assert serai_compile.scale(VNICS).hosts == 512


def test_growth_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "growth.png"
    growth.draw({size: size / 1e5 for size in growth.GROWTH}, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ports", [4_000, 256_000])
def test_other_sizes_come_close(ports: int) -> None:
    scale = serai_compile.scale(ports)
    assert 0.95 <= scale.hosts * scale.vms * scale.vnics / ports <= 1
