"""How long the compiler takes for a whole data center and for one change, how it grows, and what a host gets."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.loopback import sizes
from bench.metric import Metric
from bench.ours import told
from serai.datapath.object import GateObject
from serai.datapath.tables import Tables
from serai.model.ruleset import HostRuleset

VNICS: Final = 1_638_400
TENANTS: Final = 40_000
GROWTH: Final = (4_000, 16_000, 64_000, 256_000, VNICS)
"""Sizes to compare; tenants have 41 vNICs on the average in each."""

_LOADS: Final = 5
_Figures = dict[str, float]


def measure() -> Iterator[Metric]:
    """All about the compiler."""
    with tempfile.TemporaryDirectory(prefix="serai-bench-") as directory:
        ruleset = Path(directory) / "ruleset"
        full = compiled(VNICS, "--changes", "300", "--write", str(ruleset))
        shapes = compiled(VNICS, "--changes", "0", "--shapes")
        host, load = HostRuleset.decode(ruleset.read_bytes()), _load(ruleset)
    yield Metric(name=f"compile.full_{VNICS}_s", value=full["full_wall_s"], unit="s", goal=20)
    yield Metric(name="compile.full_rss_gb", value=full["rss_mb"] / 1024, unit="GiB", goal=8)
    yield Metric(name=f"compile.shapes_{TENANTS}_s", value=shapes["full_wall_s"], unit="s", goal=60)
    yield Metric(name="compile.shapes_rss_gb", value=shapes["rss_mb"] / 1024, unit="GiB", goal=8)
    yield Metric(name="compile.edit_p99_ms", value=full["edit_p99_ms"], unit="ms", goal=20)
    yield Metric(name="compile.edit_median_ms", value=full["edit_wall_ms"], unit="ms")
    yield Metric(name="compile.move_p99_ms", value=full["move_p99_ms"], unit="ms", goal=20)
    yield Metric(name="compile.global_rule_s", value=full["global_wall_ms"] / 1e3, unit="s", goal=5)
    yield Metric(name="compile.host_mb", value=len(host.encode()) / 1e6, unit="MB", goal=16)
    yield Metric(
        name="compile.host_tables_mb", value=sum(t.nbytes for t in host.tables.values()) / 1e6, unit="MB", goal=16
    )
    yield Metric(name="compile.host_load_ms", value=load, unit="ms", goal=300)
    grown = growth(full)
    for vnics, seconds in grown.items():
        yield Metric(name=f"compile.growth_{vnics}_us", value=seconds / vnics * 1e6, unit="us a vNIC")
    yield Metric(
        name="compile.growth", value=grown[VNICS] / VNICS / (grown[64_000] / 64_000), unit="x 64,000 vNICs", goal=1.25
    )  # fmt: skip


def growth(full: _Figures | None = None) -> dict[int, float]:
    """Seconds of CPU for data centers of some sizes; ``full`` has those of the largest, where they are known."""
    return {
        vnics: full["full_cpu_s"] if full and vnics == VNICS else compiled(vnics, "--changes", "0")["full_cpu_s"]
        for vnics in GROWTH
    }


def compiled(vnics: int, *options: str) -> _Figures:
    """Compile in a process of its own, so that nothing else is in its memory."""
    tenants = TENANTS * vnics // VNICS
    printed = told("--ports", str(vnics), "--tenants", str(tenants), *options)
    figures: _Figures = json.loads(printed.splitlines()[-1])
    return figures


def _load(file: Path) -> float:
    """Milliseconds from the bytes of a ruleset to the maps of a gate that held nothing: the median of some times."""
    taken = []
    for _ in range(_LOADS):
        raw = file.read_bytes()
        gate = GateObject.load(None, sizes=sizes(HostRuleset.decode(raw)))
        began = time.monotonic()
        Tables(gate.maps).add(HostRuleset.decode(raw))
        taken.append((time.monotonic() - began) * 1e3)
        gate.close()
    return statistics.median(taken)
