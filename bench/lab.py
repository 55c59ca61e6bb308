"""How long the lab takes: up, up again, the tour and what it measures, down."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.metric import Metric

_NAME = "bench"


def measure() -> Iterator[Metric]:
    """Seconds of each step, and the tour's own figures."""
    _serai("down")
    try:
        yield Metric(name="lab.up_s", value=_serai("up")[0], unit="s", goal=60)
        yield Metric(name="lab.up_again_s", value=_serai("up")[0], unit="s", goal=10)
        seconds, told = _serai("tour", "--json")
        found = json.loads(told)
        yield Metric(name="lab.tour_s", value=seconds, unit="s", goal=120)
        probes = found["probes"]
        yield Metric(name="lab.unexpected_probes", value=probes["total"] - probes["as_expected"], unit="", goal=0)
        yield Metric(name="lab.spoofed_passed", value=found["spoof"]["passed"], unit="frames", goal=0)
        yield Metric(name="lab.migration_gap_ms", value=found["migration"]["gap_ms"], unit="ms", goal=1000)
        unprotected = found["migration"]["unprotected_packets"]
        yield Metric(name="lab.unprotected_packets", value=unprotected, unit="packets", goal=0)
        killed = found["agent_killed"]
        yield Metric(name="lab.agent_killed_wrong", value=killed["leaked"] + killed["broken"], unit="", goal=0)
    finally:
        seconds, _ = _serai("down")
    yield Metric(name="lab.down_s", value=seconds, unit="s", goal=10)


def _serai(*words: str) -> tuple[float, str]:
    began = time.monotonic()
    command = [sys.executable, "-m", "serai.cli.main", "lab", "--name", _NAME, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=words[0] != "tour")
    return time.monotonic() - began, done.stdout
