"""What a packet costs in the gate (BPF_PROG_TEST_RUN), with one tenant loaded and with a thousand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench import tenants
from bench.loopback import LoopbackGate
from bench.metric import Metric

TENANTS = 1024
_ROUNDS = 7


def measure() -> Iterator[Metric]:
    """Median nanoseconds a packet, and how they change from 1 tenant to ``TENANTS`` with the same working set."""
    # Interleaved, so that whatever else the machine does hits both alike.
    few, many = LoopbackGate(tenants.compiled(1)), LoopbackGate(tenants.compiled(TENANTS))
    rounds = [(few.round(), many.round()) for _ in range(_ROUNDS)]
    for kind in ("established", "denied"):
        ratio = statistics.median(b[kind] / a[kind] for a, b in rounds)
        yield Metric(name=f"testrun.{kind}_ns", value=statistics.median(b[kind] for _, b in rounds), unit="ns")
        yield Metric(name=f"testrun.{kind}_flatness_{TENANTS}", value=ratio, unit="x 1 tenant", goal=1.15)
