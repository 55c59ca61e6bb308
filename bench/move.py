"""Live migrations to and fro under load, with Serai and without it, by turns: what is lost, what leaks, and what Serai adds to the gap.

Two labs stand side by side. In one the hosts have agents and gates, and `serai migrate` moves the VM; in the other there is nothing
but libvirt, which moves the same kind of VM under the same load, watched alike. Everything that is counted is counted outside the gates: by the
clients, by the guests' own services, and by packet sockets at the taps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from bench.crowd import Crowd
from bench.metric import Metric
from bench.tapwatch import Frame, TapWatch
from serai.lab.command import run_command
from serai.lab.datacenter import DataCenter
from serai.lab.image import default_image_directory
from serai.lab.lifecycle import Lab
from serai.lab.namespace import call_in_namespace
from serai.lab.outside import TickSession, flood_udp
from serai.lab.plan import LabPlan
from serai.lab.policies import PolicyDirectory, plan_of
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from serai.model.reasons import Reason
from serai.wire import flowapi

MOVES: Final = 20
CONNECTIONS: Final = 1000
_EVERY_SECONDS: Final = 4.0
_DENIED_PORT: Final = 9999
_DENIED_A_SECOND: Final = 300
_PATIENCE_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 1.0
_COME_SECONDS: Final = 120.0
_VM: Final = "/acme:web"
_DOMAIN: Final = "acme-web"
_ADDRESS: Final = IPv4Address("10.0.0.11")
_NOBODY: Final = IPv4Address("10.0.0.99")
_NOBODYS_MAC: Final = "52:54:00:ac:00:99"
_MARK: Final = b"SERAI-denied"
_WIRE: Final = "vx-100"
_ASK_SECONDS: Final = 0.05
# ARP (RFC 826) to everybody: who has 10.0.0.11, tell 10.0.0.249, which nobody else is.
_WHO_HAS: Final = bytes.fromhex("ffffffffffff525400ac00fa08060001080006040001525400ac00fa0a0000f90000000000000a00000b")

_SITE: Final = """\
apiVersion: serai.dev/v1
kind: Site
metadata: {{name: site}}
spec: {{mode: enforce}}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {{name: a}}
spec: {{address: 192.168.{net}.1}}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {{name: b}}
spec: {{address: 192.168.{net}.2}}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {{name: acme}}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {{name: front, scope: /acme}}
spec: {{subnets: [10.0.0.0/24], bridge: br-acme, vni: 100}}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {{name: web, scope: /acme}}
spec: {{host: a, domain: acme-web, memory: 320, vnics: [{{network: front, mac: "52:54:00:ac:00:11", addresses: [10.0.0.11]}}]}}
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {{name: web, scope: /acme}}
spec:
  tier: Tenant
  ingress: [{{name: users, action: Accept, ports: [tcp/7777, tcp/7778]}}]
  egress: []
"""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Tally:
    """What has been counted in all moves with Serai."""

    lost: int = 0
    unprotected: int = 0
    leaked: int = 0
    gaps_ms: list[float] = dataclasses.field(default_factory=list)
    bare_gaps_ms: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    bare_seconds: list[float] = dataclasses.field(default_factory=list)


def measure(moves: int = MOVES, connections: int = CONNECTIONS) -> Iterator[Metric]:
    """So many moves in each lab."""
    tally, began = _Tally(), datetime.now(UTC)
    with _guarded() as center, _bare() as lab:
        inside = center.lab.plan.outside_namespace("acme-front")
        beside = lab.plan.outside_namespace("acme-front")
        with _load(inside, connections) as (crowd, ticks), _load(beside, connections) as (_, bare_ticks):
            for number in range(moves):
                to = "ba"[number % 2]
                tally.seconds.append(_timed(ticks, tally.gaps_ms, partial(_counted, center, to, tally)))
                # No gate protects this guest: what is sent goes by at its taps, to nobody, or it would have more to do than the other.
                bare = partial(_watched, lab, to, partial(lab.migrate, _DOMAIN, to), flooded=_NOBODY)
                tally.bare_seconds.append(_timed(bare_ticks, tally.bare_gaps_ms, bare))
            tally.lost = len(crowd.lost(patience_seconds=_PATIENCE_SECONDS))
            dropped = _dropped(center, began)
    denied = dropped.pop(Reason.DENIED.name.lower(), 0)
    if not denied:
        raise RuntimeError("no gate met the flood: the account proves nothing")
    yield Metric(name="move.lost_connections", value=tally.lost, unit="connections", goal=0)
    yield Metric(name="move.unprotected_packets", value=tally.unprotected, unit="packets", goal=0)
    yield Metric(name="move.leaked_denied", value=tally.leaked, unit="packets", goal=0)
    yield Metric(name="move.replies_dropped", value=sum(dropped.values()), unit="packets", goal=0)
    yield Metric(name="move.denied_dropped", value=denied, unit="packets")
    with_serai, without = map(statistics.median, (tally.gaps_ms, tally.bare_gaps_ms))
    yield Metric(name="move.extra_gap_ms", value=with_serai - without, unit="ms", goal=20)
    yield Metric(name="move.gap_ms", value=with_serai, unit="ms")
    yield Metric(name="move.bare_gap_ms", value=without, unit="ms")
    yield Metric(name="move.seconds", value=statistics.median(tally.seconds), unit="s")
    yield Metric(name="move.bare_seconds", value=statistics.median(tally.bare_seconds), unit="s")


def _timed(ticks: TickSession, gaps_ms: list[float], move: Callable[[], object]) -> float:
    """Have a VM moved; note how long its ticks were silent at the most, and return how long it took, in seconds."""
    time.sleep(_SETTLE_SECONDS)
    ticks.mark()
    began = time.monotonic()
    move()
    seconds = time.monotonic() - began
    time.sleep(_SETTLE_SECONDS)
    report = ticks.report()
    if not report.alive:
        raise RuntimeError(f"the session that the gap is measured by has died: {report.error}")
    gaps_ms.append(report.longest_silence_ms)
    return seconds


def _counted(center: DataCenter, to: str, tally: _Tally) -> None:
    """Move the VM with Serai, and count what passes at both taps."""
    old, new = _watched(center.lab, to, partial(center.move, _VM, to), flooded=_ADDRESS)
    last = max((frame.ns for frame in old if not frame.to_vm), default=0)
    first = min((frame.ns for frame in new if not frame.to_vm), default=0)
    tally.leaked += sum(frame.marked and frame.to_vm for frame in (*old, *new))
    early = [last - frame.ns for frame in new if frame.to_vm and frame.ns < last]
    late = [frame.ns - first for frame in old if frame.to_vm and frame.ns > first]
    for gate, apart in (("the destination's gate, before the guest's last frame at the source", early),
                        ("the source's gate, after the guest's first frame at the destination", late)):  # fmt: skip
        if apart:
            told = ", ".join(f"{ns / 1e6:.1f} ms" for ns in apart)
            print(f"let through to {_VM} on its way to {to} by {gate}: {told}", file=sys.stderr)
    tally.unprotected += len(early) + len(late)


def _watched(
    lab: Lab, to: str, move: Callable[[], object], *, flooded: IPv4Address
) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Move the VM, while a flood to an address goes on; return what passed at its old tap and at its new one."""
    source = "ab"[to == "a"]
    here, there = map(lab.host, (source, to))
    if len(taps := here.taps()) != 1:
        raise RuntimeError(
            f"the guest is not at host {source} any more: under TCG it may die of a move on a busy machine"
        )

    def arrival(known: set[str]) -> TapWatch:
        return TapWatch(there.namespace, there.next_tap(known, timeout_seconds=_COME_SECONDS), _MARK)

    with TapWatch(here.namespace, taps.pop(), _MARK) as old, ThreadPoolExecutor(2) as pool, _flood(lab, flooded):
        coming = pool.submit(arrival, there.taps())
        moved = pool.submit(move)
        with coming.result() as new:
            moved.result()
            time.sleep(_SETTLE_SECONDS)
    if not new.frames:
        raise RuntimeError("nothing was seen at the destination: the account proves nothing")
    return old.frames, new.frames


def _dropped(center: DataCenter, since: datetime) -> dict[str, int]:
    """What gates have dropped of the VM, by reason, as the controller was told."""
    center.wait_told()
    params = {"of": _VM, "since": since.isoformat(), "until": datetime.now(UTC).isoformat()}
    with center.controller.client() as client:
        found = client.ask("GET", "/v1/drops", flowapi.Drops, params=params)
    return {each.reason: each.packets for each in found.reasons}


@contextlib.contextmanager
def _flood(lab: Lab, address: IPv4Address) -> Iterator[None]:
    """Send what the policy denies, and ask the network for the VM by broadcasts, which reach both hosts' taps."""
    namespace = lab.plan.outside_namespace("acme-front")
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            flood_udp(namespace, address, _DENIED_PORT, per_second=_DENIED_A_SECOND, seconds=0.5, marker=_MARK).result()

    def ask() -> None:
        with call_in_namespace(namespace, _raw) as wire:
            while not over.wait(_ASK_SECONDS):
                wire.send(_WHO_HAS)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(flood), pool.submit(ask)]
        try:
            yield
        finally:
            over.set()
            for each in running:
                each.result()


def _raw() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((_WIRE, 0))
    return opened


@contextlib.contextmanager
def _load(namespace: str, connections: int) -> Iterator[tuple[Crowd, TickSession]]:
    """A crowd of connections, and one that ticks every 10 ms."""
    with (
        Crowd(namespace, _ADDRESS, connections, every_seconds=_EVERY_SECONDS) as crowd,
        TickSession(namespace, _ADDRESS) as ticks,
    ):
        yield crowd, ticks


@contextlib.contextmanager
def _guarded() -> Iterator[DataCenter]:
    """A lab with Serai."""
    with _site("bm", 72) as (state, source):
        center = DataCenter.plan(source, state.directory, prefix="bm-")
        center.up(source, lambda _: None)
        yield center


@contextlib.contextmanager
def _bare() -> Iterator[Lab]:
    """The same hosts and the same VM, without agents, hooks and gates."""
    with _site("bn", 73) as (state, source):
        plan: LabPlan = plan_of(PolicyDirectory(source).load(), prefix="bn-")
        lab = Lab(plan, state.directory, image_dir=default_image_directory())
        lab.make_hosts(lambda _: None)
        lab.start_guests(lambda _: None)
        outside = lab.plan.outside_namespace("acme-front")
        neighbor = ("replace", str(_NOBODY), "lladdr", _NOBODYS_MAC, "dev", _WIRE, "nud", "permanent")
        run_command(["ip", "-n", outside, "neigh", *neighbor])
        yield lab


@contextlib.contextmanager
def _site(name: str, net: int) -> Iterator[tuple[LabState, Path]]:
    state = LabState(Path(f"/run/{name}-lab"))
    take_down(state, lambda _: None)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        (source / "site.yaml").write_text(_SITE.format(net=net))
        try:
            yield state, source
        finally:
            take_down(state, lambda _: None)
