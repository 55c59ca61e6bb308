"""The benchmark runs: small, but all of it, on real taps."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bench import gate, guard, peers, restart
from bench.topology import isolated, run
from bench.traffic import KINDS

pytestmark = pytest.mark.kernel


def namespaces() -> dict[str, Path]:
    return {name: Path(f"/proc/self/ns/{name}").readlink() for name in ("net", "mnt")}


def test_every_promised_metric_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gate, guard):
        monkeypatch.setattr(module, "TENANTS", 8)
    monkeypatch.setattr(restart, "TAPS", 8)
    before = namespaces()
    found = {metric.name: metric for metric in gate.measure(rounds=1, scale=0.02)}
    filters = ("gate", "nft_vmap", "nft_linear_1000", "ipset_320")
    columns = {f"{name}.cpu.{kind}" for name in filters for kind in KINDS}
    others = {"columns_not_first", "flatness_8", "readopt_8_s", "attach_8_s", "export_10k_ms", "import_10k_ms"}
    assert found.keys() == columns | {f"gate.{name}" for name in others}
    for name, metric in found.items():
        assert metric.missing or metric.value is not None, name
    assert all(found[f"gate.cpu.{kind}"].value is not None for kind in KINDS)
    assert namespaces() == before


def test_a_peer_that_is_absent_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    told = peers.NftMap([]).missing()
    assert told.startswith("no nft ")
    metrics = list(gate._metrics("nft_vmap", None, told))
    assert [(metric.value, metric.missing) for metric in metrics] == [(None, told)] * len(KINDS)
    first = gate._first({"gate": dict.fromkeys(KINDS, 1.0)}, {"nft_vmap": told})
    assert (first.value, first.ok) == (None, False)


def test_nothing_is_left_when_it_fails() -> None:
    before, here = namespaces(), Path.cwd()
    inside = []
    with contextlib.suppress(RuntimeError), isolated():
        inside.append(namespaces())
        run("ip", "link", "set", "no-such-link", "up")
        inside.append(namespaces())
    assert len(inside) == 1, "a command that fails ends it"
    assert inside[0] != before
    assert (namespaces(), Path.cwd()) == (before, here)
