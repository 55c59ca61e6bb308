"""What it costs an agent to tell of traffic: 100,000 live flows, all of which carry packets in each interval; and a flood of new ones.

The flows of the first part are written into the tables of real gates, as if packets had passed; those of the second are opened by
packets. No controller takes the records: they stay in the agent's spool, where they are counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from bench import spooled, tenants
from bench.agentprocess import PINS, AgentProcess, AgentProcessError, running
from bench.metric import Metric
from bench.topology import Bridge, End, Pair, ifindex, isolated
from bench.traffic import udp_frame
from serai.agent.config import Limits
from serai.agent.lastgood import LastGood
from serai.datapath.gates import Gates
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.maps import Array, Map
from serai.model.address import pack
from serai.model.ports import TCP, UDP
from serai.model.ruleset import GuardedVnic, HostRuleset, Step
from serai.policy.compile import compile_host
from serai.wire.local import RecordsStatus

VNICS: Final = 100
FLOWS: Final = 1000
"""Of each vNIC."""
INTERVALS: Final = 3
"""That are measured."""
NEW_A_SECOND: Final = 10_000
FLOOD_SECONDS: Final = 5

_SECONDS: Final = Limits().record_seconds
_PATIENCE_SECONDS: Final = 10 * _SECONDS
_BEAT_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 0.5
_ESTABLISHED: Final = 0x12  # SYN and ACK
_FIRST_PORT: Final = 10_000
_REMOTE: Final = bytes(10) + b"\xff\xff" + bytes([203, 0, 113, 7])
_PORTS_AT: Final = 34  # in a frame: behind Ethernet and IPv4
_FULL: Final = 0.95


def measure() -> Iterator[Metric]:
    """The share of a core, and the memory; then what a flood makes of it.

    Raises:
        AgentProcessError: the agent does not tell what it should.
    """
    with tempfile.TemporaryDirectory() as name:
        flood = yield from _measured(Path(name))
        # Not before: whoever decodes has threads from then on, and nobody leaves a mount namespace who has threads.
        told = sum(
            spooled.begun(batch, UDP) for path in spooled.files(Path(name) / "records") for batch in spooled.read(path)
        )
    uncounted = max(0, 2 * flood.opened - told - flood.lost)
    yield Metric(name="flows.agent_flood_uncounted", value=uncounted, unit="flows", goal=0)


def _measured(state: Path) -> Generator[Metric, None, Flood]:
    with isolated(), contextlib.closing(Bridge()) as bridge:
        world = tenants.world(range(VNICS // len(tenants.VMS)))
        ruleset = compile_host(world, "bench", world.vms)
        ends = {vnic.path: bridge.tap(str(vnic.addresses[0]), vnic.mac) for vnic in ruleset.vnics}
        bridge.wait()
        LastGood(state / "ruleset").write(ruleset)
        live = LiveFlows(_gated(ruleset, ends))
        with running(ruleset.host, state) as agent:
            agent.wait(VNICS)
            with live.busy():
                yield from _steady(agent)
                return (yield from _flooded(agent, _pairs(ends)))


def _gated(ruleset: HostRuleset, ends: Mapping[str, End]) -> Mapping[GuardedVnic, Map]:
    """Put gates on all taps, for the agent to adopt; return the flow tables."""
    gates = Gates.open(PINS)
    try:
        gates.prepare(ruleset)
        for end in ends.values():
            gates.attach(ifindex(end))
        gates.bind({ifindex(ends[vnic.path]): vnic for vnic in ruleset.vnics})
        return {vnic: table for vnic in ruleset.vnics if (table := gates.flows.table(vnic.id)) is not None}
    finally:
        gates.close()


def _pairs(ends: Mapping[str, End]) -> list[Pair]:
    """Return the clients and servers, each of one tenant."""
    names = [path.partition(":")[0] for path in ends if path.endswith(":client/eth0")]
    return [Pair(a=ends[f"{name}:client/eth0"], b=ends[f"{name}:server/eth0"]) for name in names]


class LiveFlows:
    """Connections that carry packets all the time."""

    def __init__(self, tables: Mapping[GuardedVnic, Map]) -> None:
        """Open ``FLOWS`` of each vNIC."""
        self._tables = [(table, _keys(vnic), _flows()) for vnic, table in tables.items()]
        self._carry()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Let packets pass, while the body runs, on every flow in every interval."""
        enough = threading.Event()

        def carry() -> None:
            while not enough.wait(_SECONDS / 3):
                self._carry()

        carrying = threading.Thread(target=carry, daemon=True)
        carrying.start()
        try:
            yield
        finally:
            enough.set()
            carrying.join()

    def _carry(self) -> None:
        for table, keys, flows in self._tables:
            flows["last_ns"] = time.monotonic_ns()
            flows["packets"] += np.array([3, 4], "<u8")
            flows["bytes"] += np.array([400, 4000], "<u8")
            table.update(keys, flows)


def _keys(vnic: GuardedVnic) -> Array:
    keys = np.zeros(FLOWS, FLOW_KEY)
    keys["local"] = np.frombuffer(pack(vnic.addresses[0]), "u1")
    keys["remote"] = np.frombuffer(_REMOTE, "u1")
    keys["local_port"] = _FIRST_PORT + np.arange(FLOWS)
    keys["remote_port"] = 443
    keys["protocol"] = TCP
    return keys


def _flows() -> Array:
    flows = np.zeros(FLOWS, FLOW)
    flows["step"] = flows["staged_step"] = Step.ACCEPT
    flows["tcp_flags"] = _ESTABLISHED
    flows["first_ns"] = time.monotonic_ns()
    return flows


def _steady(agent: AgentProcess) -> Iterator[Metric]:
    _wait_until_told(agent, time.time())  # the first time, all of them are new
    told = _status(agent).records
    before, began = agent.cpu_seconds(), time.monotonic()
    time.sleep(INTERVALS * _SECONDS)
    percent = (agent.cpu_seconds() - before) / (time.monotonic() - began) * 100
    told, wanted = _status(agent).records - told, VNICS * FLOWS * INTERVALS
    if told < (wanted - VNICS * FLOWS) * _FULL:  # the clocks of both need not agree about the last interval
        raise AgentProcessError(f"the agent told of {told} changes of flows, and there were {wanted}")
    yield Metric(name="flows.agent_core_pct", value=percent, unit="%", goal=3)
    yield Metric(name="flows.agent_rss_mb", value=agent.peak_mb(), unit="MB", goal=150)


def _status(agent: AgentProcess) -> RecordsStatus:
    records = agent.status().records
    if records is None:
        raise AgentProcessError("the agent does not record traffic")
    return records


def _wait_until_told(agent: AgentProcess, moment: float) -> None:
    """Wait until all is told that had been counted by then (seconds since 1970).

    An interval has room for so many records; what there are more the next ones tell. When one has no more than live flows make, all is told.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        files = spooled.files(agent.records)
        # An interval has many batches, and the agent says that they are there when all of them are.
        if files and _status(agent).batches == len(files):
            latest = next(spooled.read(files[-1]))
            if latest.since >= moment and spooled.in_interval(files, latest.until) <= VNICS * FLOWS / _FULL:
                return
        time.sleep(_ASK_SECONDS)
    raise AgentProcessError("the agent does not tell all that there is of traffic")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What was done to an agent."""

    opened: int
    """Flows, each of which two gates count."""
    lost: int
    """Records that the agent says it could not tell."""


def _flooded(agent: AgentProcess, pairs: list[Pair]) -> Generator[Metric, None, Flood]:
    """Open flows faster than they can be told of."""
    before = _status(agent)
    with _asked(agent) as slowest:
        opened = _flood(pairs)
        _wait_until_told(agent, time.time())
    lost = _status(agent).lost - before.lost
    yield Metric(name="flows.agent_flood_answer_s", value=slowest.seconds, unit="s", goal=1)
    yield Metric(name="flows.agent_flood_lost", value=lost, unit="records")
    yield Metric(name="flows.agent_flood_rss_mb", value=agent.peak_mb(), unit="MB")
    return Flood(opened=opened, lost=lost)


@dataclasses.dataclass(slots=True)
class _Slowest:
    """The longest that an answer took."""

    seconds: float = 0.0


@contextlib.contextmanager
def _asked(agent: AgentProcess) -> Iterator[_Slowest]:
    """Ask the agent how it is, again and again, while the body runs.

    Raises:
        AgentError: it did not answer.
    """
    enough, slowest = threading.Event(), _Slowest()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not enough.wait(_ASK_SECONDS):
                began = time.monotonic()
                agent.status()
                slowest.seconds = max(slowest.seconds, time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield slowest
    finally:
        enough.set()
        asking.join()
    if failed:
        raise failed[0]


def _flood(pairs: list[Pair]) -> int:
    """Send ``NEW_A_SECOND`` packets for ``FLOOD_SECONDS``, each of which opens a flow; return how many."""
    templates = [(pair, bytearray(udp_frame(pair))) for pair in pairs]
    opened = 0
    began = time.monotonic()
    while (passed := time.monotonic() - began) < FLOOD_SECONDS:
        while opened < passed * NEW_A_SECOND:
            number, which = divmod(opened, len(templates))
            pair, frame = templates[which]
            frame[_PORTS_AT : _PORTS_AT + 4] = (1024 + number).to_bytes(2, "big") + (5000).to_bytes(2, "big")
            os.write(pair.a.descriptor, frame)
            opened += 1
        for pair in pairs:
            with contextlib.suppress(BlockingIOError):
                while os.read(pair.b.descriptor, 2048):
                    pass
        time.sleep(_BEAT_SECONDS / 10)
    return opened


def main() -> None:
    """Measure, and print."""
    for metric in measure():
        print(*metric.row(), sep="\t", flush=True)


if __name__ == "__main__":
    main()
