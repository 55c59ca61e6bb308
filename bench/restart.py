"""How long the gates of 320 taps take to be put on, and to be adopted by an agent that was killed and started again.

The agent is the real one, from the start of its process on. Meanwhile one VM floods its tap with packets, every
other one of which policy denies: nothing denied may arrive, and everything accepted must.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import tenants
from bench.metric import Metric
from bench.topology import BPFFS, Bridge, End, Pair, ifindex, isolated
from bench.traffic import udp_frame
from serai.agent.lastgood import LastGood
from serai.datapath.gates import Gates
from serai.model.ruleset import HostRuleset
from serai.policy.compile import compile_host

TAPS: Final = 320
_RESTARTS: Final = 3
_PATIENCE_SECONDS: Final = 60
_PAUSE_SECONDS: Final = 1e-4  # some thousand packets a second of each kind, and a processor left for the agent
_PINS: Final = BPFFS / "serai"

_AGENT: Final = """
import sys
from pathlib import Path
from serai.agent.config import Config
from serai.agent.main import main
host, state, pins = sys.argv[1:]
main(Config(host=host, socket=Path(state, "agent.sock"), state=Path(state), bpffs=Path(pins),
            libvirt=f"qemu+unix:///system?socket={state}/nobody"))
"""


class RestartError(RuntimeError):
    """The agent did not do what it promises."""


def measure() -> Iterator[Metric]:
    """Seconds of a cold start's attaching, and of a restart: the least of some, as others only ever delay it."""
    with isolated(), contextlib.closing(Bridge()) as bridge, tempfile.TemporaryDirectory() as state:
        world = tenants.world(range(TAPS // len(tenants.VMS)))
        ruleset = compile_host(world, "bench", world.vms)
        ends = {vnic.path: bridge.tap(str(vnic.addresses[0]), vnic.mac) for vnic in ruleset.vnics}
        bridge.wait()
        attached = _attach_all(ruleset, ends)
        LastGood(Path(state, "ruleset")).write(ruleset)
        client, server, source = (ends[f"/t0/shop:{name}/eth0"] for name in ("client", "server", "source"))
        with _flood(allowed=Pair(a=client, b=server), denied=Pair(a=client, b=source)):
            adopted = [_adopt_all(ruleset.host, state) for _ in range(_RESTARTS)]
    yield Metric(name=f"gate.readopt_{TAPS}_s", value=min(adopted), unit="s", goal=1)
    yield Metric(name=f"gate.attach_{TAPS}_s", value=attached, unit="s")


def _attach_all(ruleset: HostRuleset, ends: dict[str, End]) -> float:
    """Do what a first agent does, and leave as it leaves when it is killed."""
    gates = Gates.open(_PINS)
    try:
        gates.prepare(ruleset)
        began = time.monotonic()
        for end in ends.values():
            gates.attach(ifindex(end))
        took = time.monotonic() - began
        gates.bind({ifindex(ends[vnic.path]): vnic for vnic in ruleset.vnics})
    finally:
        gates.close()
    return took


def _adopt_all(host: str, state: str) -> float:
    """Start an agent, wait until it says of every tap that it has adopted its gate, and kill it."""
    # Whatever becomes of this process, the agent shall not stay.
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _AGENT, host, state, str(_PINS)]
    said: list[str] = []
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as agent:
        impatience = threading.Timer(_PATIENCE_SECONDS, agent.kill)
        impatience.start()
        try:
            assert agent.stderr is not None
            for line in agent.stderr:
                said.append(line)
                if "gates adopted" in line and f'"count": {TAPS},' in line:
                    return time.monotonic() - began
        finally:
            impatience.cancel()
            agent.kill()
    raise RestartError(f"the agent did not adopt {TAPS} gates; it said:\n{''.join(said[-20:])}")


@contextlib.contextmanager
def _flood(*, allowed: Pair, denied: Pair) -> Iterator[None]:
    """Send both kinds of packets, in turn, while the body runs.

    Raises:
        RestartError: something denied arrived, or something allowed did not.
    """
    enough = threading.Event()
    sent = {allowed: 0, denied: 0}
    arrived = {allowed: 0, denied: 0}

    def flood() -> None:
        frames = {pair: udp_frame(pair, ports=(1024, 1024)) for pair in sent}
        while not enough.is_set():
            for pair, frame in frames.items():
                os.write(pair.a.descriptor, frame)
                sent[pair] += 1
                arrived[pair] += _read_all(pair.b.descriptor)
            time.sleep(_PAUSE_SECONDS)

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    try:
        yield
    finally:
        enough.set()
        flooding.join()
    if arrived != {allowed: sent[allowed], denied: 0}:
        raise RestartError(
            f"of {sent[denied]} denied packets {arrived[denied]} arrived, of {sent[allowed]} allowed {arrived[allowed]}"
        )


def _read_all(tap: int) -> int:
    frames = 0
    with contextlib.suppress(BlockingIOError):
        while os.read(tap, 2048):
            frames += 1
    return frames
