"""A move fails wherever it can stand: its guest runs on, guarded and with its connections, at one host, and the next move succeeds.

Real guests, libvirt, QEMU, agents and controller. All the while a session from outside goes on with the guest, and what no rule allows
is sent to it and from it; packet sockets in the hosts and outside count what comes through. A move is held where it stands by
stopping whoever would go on with it, or by letting the guest's memory go over slowly.

Some of the table is always tried, and all of it with ``ABORTED_MOVES=all``. What cannot be held with a real guest is left to the playbooks and to
``test_moves_played.py``: a destination that holds the rules and has not said so yet, and a source that was stopped between a copy and the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from aborting import ADDRESS, Scene
from aborting_hosts import DOMAIN, VM
from serai.lab.datacenter import DataCenter
from serai.lab.fabric import UNDERLAY_INTERFACE
from serai.lab.namespace import call_in_namespace
from serai.lab.outside import TickSession, flood_udp
from serai.lab.sniff import FrameSniffer
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from serai.migration.states import State

pytestmark = pytest.mark.scenario

NAME = "am"
EVERYTHING = os.environ.get("ABORTED_MOVES") == "all"
OUTSIDE = "am-out-acme-front"
DENIED_PORT = 9999
TO_VM, FROM_VM = b"SERAI-denied-to-it", b"SERAI-denied-from-it"
MAC = bytes.fromhex("525400ac0011")
ANNOUNCED_SECONDS = 1.0
"""QEMU announces a guest five times, the last time after 0.7 s (announce-self)."""
ARP, RARP, IPV4 = 0x0806, 0x8035, 0x0800
SITE = """apiVersion: serai.dev/v1
kind: Site
metadata: {name: site}
spec: {mode: enforce}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
spec: {address: 192.168.75.1}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: b}
spec: {address: 192.168.75.2}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: front, scope: /acme}
spec: {subnets: [10.0.0.0/24], bridge: br-acme, vni: 100}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: web, scope: /acme}
spec: {host: a, domain: acme-web, vnics: [{network: front, mac: "52:54:00:ac:00:11", addresses: [10.0.0.11]}]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: app, scope: /acme}
spec: {host: a, domain: acme-app, vnics: [{network: front, mac: "52:54:00:ac:00:12", addresses: [10.0.0.12]}]}
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {name: web, scope: /acme}
spec:
  tier: Tenant
  ingress: [{name: users, action: Accept, ports: [tcp/7778]}]
  egress: []
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Something fails while a move stands somewhere."""

    at: State
    what: Callable[[Scene], None]
    ends: State
    always: bool = False
    early: bool = False
    """Who was killed is back before anything goes on."""

    def __str__(self) -> str:
        return f"{self.at}: {self.what.__name__.replace('_', ' ')}{', and is back' if self.early else ''}"


CASES = (
    Case(State.WAITING, Scene.abort, State.ABORTED, always=True),
    Case(State.PLANNED, Scene.abort, State.ABORTED),
    Case(State.PLANNED, Scene.destination_dies, State.DONE),
    Case(State.PLANNED, Scene.controller_dies, State.DONE),
    Case(State.PREPARED, Scene.abort, State.ABORTED),
    Case(State.PREPARED, Scene.source_dies, State.DONE, always=True),
    Case(State.PREPARED, Scene.destination_dies, State.DONE),
    Case(State.PREPARED, Scene.controller_dies, State.DONE, early=True),
    Case(State.PREPARED, Scene.controller_dies, State.ABORTED),
    Case(State.PREPARED, Scene.cut_and_abort, State.ABORTED),
    Case(State.COPIED, Scene.abort, State.ABORTED, always=True),
    Case(State.COPIED, Scene.job_is_cancelled, State.ABORTED, always=True),
    Case(State.COPIED, Scene.source_dies, State.ABORTED, always=True, early=True),
    Case(State.COPIED, Scene.destination_dies, State.DONE, early=True),
    Case(State.COPIED, Scene.controller_dies, State.DONE),
    Case(State.COPIED, Scene.cut_and_abort, State.ABORTED),
    Case(State.SWITCHED, Scene.abort, State.DONE),
    Case(State.SWITCHED, Scene.guest_dies_there, State.ABORTED, always=True),
    Case(State.SWITCHED, Scene.libvirt_dies_there, State.ABORTED),
    Case(State.SWITCHED, Scene.all_dies_there, State.ABORTED, always=True),
    Case(State.SWITCHED, Scene.source_dies_and_guest_there, State.ABORTED),
    Case(State.SWITCHED, Scene.source_dies, State.DONE),
    Case(State.SWITCHED, Scene.destination_dies, State.DONE),
    Case(State.SWITCHED, Scene.controller_dies, State.DONE),
    Case(State.SWITCHED, Scene.cut_and_guest_dies_there, State.ABORTED),
    Case(State.LIVE, Scene.abort, State.DONE),
    Case(State.LIVE, Scene.source_dies, State.DONE),
    Case(State.CARRIED, Scene.abort, State.DONE, always=True),
    Case(State.CARRIED, Scene.source_dies, State.DONE),
    Case(State.FENCED, Scene.abort, State.DONE),
    Case(State.FENCED, Scene.destination_dies, State.DONE),
    Case(State.ABORTING, Scene.controller_dies, State.ABORTED),
)
TRIED = [case for case in CASES if case.always or EVERYTHING]


class Watch:
    """The load, and what of it comes through: a session, and floods that no rule allows."""

    def __init__(self, center: DataCenter) -> None:
        self._center = center
        self._over = threading.Event()
        self._stack = contextlib.ExitStack()
        self.session = TickSession(OUTSIDE, ADDRESS)
        self._hosts = {
            host.name: FrameSniffer(host.namespace, [TO_VM, FROM_VM], without=UNDERLAY_INTERFACE)
            for host in center.lab.hosts
        }
        self._outside = FrameSniffer(OUTSIDE, [FROM_VM], without=UNDERLAY_INTERFACE)

    def __enter__(self) -> Self:
        for each in (*self._hosts.values(), self._outside, self.session):
            self._stack.enter_context(each)
        pool = self._stack.enter_context(ThreadPoolExecutor(2))
        self._running = [pool.submit(self._to_it), pool.submit(asyncio.run, self._from_it())]
        self._stack.callback(self._over.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for each in self._running:
            each.result()

    def sent(self) -> list[int]:
        """How many frames of each flood have come as far as a gate."""
        to_it = [host.total(marker=TO_VM, interface="vx-100", direction="in") for host in self._hosts.values()]
        from_it = [_at_taps(host, FROM_VM, "in") for host in self._hosts.values()]
        return [sum(to_it), sum(from_it)]

    def leaked(self) -> list[int]:
        """How many have come through: to a guest, onto a host's other interfaces, and outside."""
        to_it = sum(_at_taps(host, TO_VM, "out") for host in self._hosts.values())
        beside = sum(host.total(marker=FROM_VM) - _at_taps(host, FROM_VM, "in") for host in self._hosts.values())
        return [to_it, beside, self._outside.total()]

    def _to_it(self) -> None:
        while not self._over.is_set():
            flood_udp(OUTSIDE, ADDRESS, DENIED_PORT, per_second=100, seconds=0.5, marker=TO_VM).result()

    async def _from_it(self) -> None:
        users = self._center.lab.plan.network("acme-front").outside
        async with self._center.lab.shell(DOMAIN) as shell:
            flood = asyncio.create_task(
                shell.flood(users, DENIED_PORT, per_second=50, seconds=3600, marker=FROM_VM.decode())
            )
            while not self._over.is_set():
                assert not flood.done(), "the guest does not send what it is told to"
                await asyncio.sleep(0.1)
            flood.cancel()


def _at_taps(host: FrameSniffer, marker: bytes, direction: str) -> int:
    return sum(
        count
        for key, count in host.counts().items()
        if key.marker == marker and key.direction == direction and key.interface.startswith("vnet")
    )


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataCenter]:
    state = LabState(Path(f"/run/{NAME}-lab"))
    take_down(state, lambda _: None)
    source = tmp_path_factory.mktemp("site")
    (source / "site.yaml").write_text(SITE)
    made = DataCenter.plan(source, state.directory, prefix=f"{NAME}-", moves={"at_once": 1})
    try:
        made.up(source, lambda _: None)
        yield made
    finally:
        take_down(state, lambda _: None)


@pytest.fixture(scope="module")
def watch(center: DataCenter) -> Iterator[Watch]:
    with Watch(center) as made:
        yield made


@pytest.mark.parametrize("case", TRIED, ids=str)
def test_a_move_that_fails_leaves_its_guest_guarded_at_one_host(center: DataCenter, watch: Watch, case: Case) -> None:
    before = watch.sent()
    scene = Scene(center)
    with scene.held(case.at):
        case.what(scene)
        if case.early:
            scene.mend()
    scene.mend()
    over = scene.over()
    assert over.state is case.ends, over.why
    home = scene.to if case.ends is State.DONE else scene.source
    scene.check(home, watch.session)
    if case.what is Scene.abort:
        status, said = scene.told()
        assert status == (0 if case.ends is State.ABORTED else 2), said
    again = Scene(center)
    center.move(VM, again.to)
    again.check(again.to, watch.session)
    assert all(now > then for now, then in zip(watch.sent(), before, strict=True)), "what is denied was sent"
    assert watch.leaked() == [0, 0, 0]


class Listening:
    """Takes down what a user's machine hears that is no traffic of IPv4 of its own: what others announce, and ask."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            made.bind(("vx-100", 0x0003))
            made.settimeout(0.2)
            return made

        self._socket = call_in_namespace(OUTSIDE, opened)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                frame, where = self._socket.recvfrom(2048)
                if where[2] != socket.PACKET_OUTGOING and int.from_bytes(frame[12:14]) != IPV4:
                    self.heard.append(frame)


def outside(*words: str) -> object:
    """What a user's machine believes."""
    done = subprocess.run(["ip", "-j", "-n", OUTSIDE, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def neighbor() -> list[str]:
    return [each["lladdr"] for each in outside("neigh", "show", str(ADDRESS))]  # type: ignore[attr-defined]


def test_nobody_outside_is_told_of_a_move(center: DataCenter, watch: Watch) -> None:
    """A user's machine goes on with the same address at the same MAC, and hears what QEMU has switches told, as in any move."""
    time.sleep(ANNOUNCED_SECONDS)  # the last move's announcements are over
    believed = [outside("address"), outside("route"), neighbor()]
    scene = Scene(center)
    ticks = watch.session.report().ticks
    with Listening() as listening:
        center.move(VM, scene.to)
        scene.check(scene.to, watch.session)
        time.sleep(ANNOUNCED_SECONDS)
    assert watch.session.report().ticks > ticks
    assert [outside("address"), outside("route"), neighbor()] == believed
    assert believed[2] == ["52:54:00:ac:00:11"]
    assert {frame[6:12] for frame in listening.heard} == {MAC}, "from the VM alone"
    rarps = [frame for frame in listening.heard if int.from_bytes(frame[12:14]) == RARP]
    assert rarps, "as of any guest that QEMU moves: this is how one knows that it listened"
    assert {struct.unpack(">6sI6sI", frame[22:42]) for frame in rarps} == {(MAC, 0, MAC, 0)}, (
        "they name no address of IP"
    )
    others = [frame for frame in listening.heard if frame not in rarps]
    assert {int.from_bytes(frame[12:14]) for frame in others} <= {ARP}, (
        "the guest's own: virtio has it announce itself, too"
    )
    assert {frame[22:32] for frame in others} <= {MAC + ADDRESS.packed}, "which says what is so anyway"


def test_every_state_is_tried() -> None:
    """All of the table: each state that a move can be held in, and each way to fail."""
    assert {case.at for case in CASES} == set(State) - {State.DONE, State.ABORTED}
