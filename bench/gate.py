"""What two gates between two VMs cost, beside no filter at all and beside what others would use."""

from __future__ import annotations

import collections
import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bench import handoff, restart, tenants
from bench.filters import Filter
from bench.guard import TENANTS, Guard
from bench.loopback import LoopbackGate
from bench.metric import Metric
from bench.peers import IpsetChains, NftLinear, NftMap
from bench.ratios import columns_not_first, median_ratio
from bench.topology import Bridge, Pair, isolated
from bench.traffic import KINDS, Traffic

ROUNDS: Final = 8
_FLATNESS_ROUNDS: Final = 9
_GOALS: Final[Mapping[str, float]] = {"tcp_bulk": 1.05, "udp64": 1.12, "rr": 1.10, "crr": 1.12, "newflow": 2.0}
_UNIT: Final = "x no filter"

Column = Mapping[str, float]
"""By kind of traffic, the cost of an operation relative to no filter."""


def measure(*, rounds: int = ROUNDS, scale: float = 1.0) -> Iterator[Metric]:
    """All about the gate. Fewer rounds and smaller ones (``scale``) only show that it works."""
    columns, missing = _columns(rounds, scale)
    for name in columns | missing:
        yield from _metrics(name, columns.get(name), missing.get(name, ""))
    yield _first(columns, missing)
    yield _flatness()
    yield from restart.measure()
    yield from handoff.measure()


def _columns(rounds: int, scale: float) -> tuple[dict[str, Column], dict[str, str]]:
    """What each filter costs, by its name; and of those that cannot be measured, what is missing."""
    with isolated(), contextlib.closing(Bridge()) as bridge:
        vnics = {vm.name: (str(vnic.addresses[0]), vnic.mac) for vm, vnic in tenants.world([0]).vnics()}
        sockets = Pair(a=bridge.veth(*vnics["client"]), b=bridge.veth(*vnics["server"]))
        taps = Pair(a=bridge.tap(*vnics["source"]), b=bridge.tap(*vnics["sink"]))
        bridge.introduce([sockets.a, sockets.b])
        bridge.wait()
        ends = [sockets.a, sockets.b, taps.a, taps.b]
        filters: list[Filter] = [Guard(ends), NftMap(ends), NftLinear(ends), IpsetChains(ends)]
        missing = {found.name: found.missing() for found in filters if found.missing()}
        present = [found for found in filters if found.name not in missing]
        for found in present:
            found.load()
        return _compare(present, Traffic(sockets, taps), rounds, scale), missing


def _compare(filters: Sequence[Filter], traffic: Traffic, rounds: int, scale: float) -> dict[str, Column]:
    """Measure each filter right after no filter, in turn, so that whatever else the machine does hits all alike."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = collections.defaultdict(list)
    for _ in range(rounds):
        for found in filters:
            without = {kind: traffic.measure(kind, scale=scale) for kind in KINDS}
            found.on()
            for kind in KINDS:
                pairs[found.name, kind].append((without[kind], traffic.measure(kind, scale=scale)))
            found.off()
    return {found.name: {kind: median_ratio(pairs[found.name, kind]) for kind in KINDS} for found in filters}


def _metrics(name: str, column: Column | None, missing: str) -> Iterator[Metric]:
    for kind in KINDS:
        yield Metric(
            name=f"{name}.cpu.{kind}",
            value=column[kind] if column else None,
            unit=_UNIT,
            goal=_GOALS[kind] if name == Guard.name else None,
            missing=missing,
        )


def _first(columns: Mapping[str, Column], missing: Mapping[str, str]) -> Metric:
    """Nobody is first while somebody is absent."""
    value = None if missing else columns_not_first(columns[Guard.name], columns.values())
    why = f"not measured: {', '.join(missing)}" if missing else ""
    return Metric(name="gate.columns_not_first", value=value, unit="columns", goal=0, missing=why)


def _flatness() -> Metric:
    """One packet that is known and one that is judged: what both cost with many tenants, relative to one."""
    gates = [LoopbackGate(tenants.compiled(count)) for count in (1, TENANTS)]
    pairs = [[sum(gate.round().values()) for gate in gates] for _ in range(_FLATNESS_ROUNDS)]
    for gate in gates:
        gate.close()
    ratio = statistics.median(many / one for one, many in pairs)
    return Metric(name=f"gate.flatness_{TENANTS}", value=ratio, unit="x 1 tenant", goal=1.05)
