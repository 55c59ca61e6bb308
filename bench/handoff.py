"""How long a vNIC's flows take to be written down on one host and taken over on another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from bench import tenants
from bench.loopback import LoopbackGate
from bench.metric import Metric

_FLOWS: Final = 10_000
_FIRST_PORT: Final = 1024
_ROUNDS: Final = 7


def measure() -> Iterator[Metric]:
    """Milliseconds for ``_FLOWS`` flows that packets opened; the least of some rounds, as others only ever delay them."""
    here, there = LoopbackGate(tenants.compiled(1)), LoopbackGate(tenants.compiled(1))
    for port in range(_FIRST_PORT, _FIRST_PORT + _FLOWS - 1):  # one is open already
        here.open(port)
    exports, imports = zip(*(_move(here, there) for _ in range(_ROUNDS)), strict=True)
    yield Metric(name="gate.export_10k_ms", value=min(exports), unit="ms", goal=10)
    yield Metric(name="gate.import_10k_ms", value=min(imports), unit="ms", goal=80)


def _move(here: LoopbackGate, there: LoopbackGate) -> tuple[float, float]:
    """Milliseconds of either side, into an empty table."""
    vnic = here.vnic.id
    table = there.flows.table(vnic)
    assert table is not None
    table.delete(table.dump()[0])
    times = [time.monotonic()]
    raw = here.flows.export(vnic, time.monotonic_ns())
    times.append(time.monotonic())
    taken = there.flows.take(raw, time.monotonic_ns())
    times.append(time.monotonic())
    if taken != _FLOWS:
        raise RuntimeError(f"{taken} flows arrived, and {_FLOWS} were sent")
    began, between, ended = times
    return (between - began) * 1e3, (ended - between) * 1e3
