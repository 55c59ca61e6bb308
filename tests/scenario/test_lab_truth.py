"""What the controller has on record is what packet sockets on the taps have seen, exactly: real guests, a killed agent, live migrations.

Users outside and guests talk over both versions of IP: TCP in super-segments, UDP and pings in fragments; one session goes on while its
VM moves to the other host, and back by plain ``virsh``. That is a move as others: ended, aborted, and on its receipt.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

import pytest
from frames import ICMP, ICMPV6, TCP, UDP

from serai.lab.datacenter import RECORD_SECONDS, DataCenter
from serai.lab.namespace import call_in_namespace
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from serai.wire import flowapi, moveapi
from witness import Flow, Seen, Witness

pytestmark = pytest.mark.scenario

NAME = "tr"
WEB, APP = "/acme:web", "/acme:app"
ADDRESSES = {WEB: ("10.0.0.11", "fd00::11"), APP: ("10.0.0.12", "fd00::12")}
ECHO = 7777
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}
SITE = """apiVersion: serai.dev/v1
kind: Site
metadata: {name: site}
spec: {mode: enforce}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: a}
spec: {address: 192.168.71.1}
---
apiVersion: serai.dev/v1
kind: Host
metadata: {name: b}
spec: {address: 192.168.71.2}
---
apiVersion: serai.dev/v1
kind: Tenant
metadata: {name: acme}
---
apiVersion: serai.dev/v1
kind: Network
metadata: {name: front, scope: /acme}
spec: {subnets: [10.0.0.0/24, "fd00::/64"], bridge: br-acme, vni: 100}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: web, scope: /acme}
spec: {host: a, domain: acme-web, vnics: [{network: front, mac: "52:54:00:ac:00:11", addresses: [10.0.0.11, "fd00::11"]}]}
---
apiVersion: serai.dev/v1
kind: VirtualMachine
metadata: {name: app, scope: /acme}
spec: {host: b, domain: acme-app, vnics: [{network: front, mac: "52:54:00:ac:00:12", addresses: [10.0.0.12, "fd00::12"]}]}
---
apiVersion: serai.dev/v1
kind: Policy
metadata: {name: all, scope: /acme}
spec: {tier: Tenant, ingress: [{name: all, action: Accept}], egress: [{name: all, action: Accept}]}
"""


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataCenter]:
    state = LabState(Path(f"/run/{NAME}-lab"))
    take_down(state, lambda _: None)
    source = tmp_path_factory.mktemp("site")
    (source / "site.yaml").write_text(SITE)
    made = DataCenter.plan(source, state.directory, prefix=f"{NAME}-")
    try:
        made.up(source, lambda _: None)
        yield made
    finally:
        take_down(state, lambda _: None)


def outside(center: DataCenter) -> Callable[..., socket.socket]:
    """What makes sockets where the users are."""
    return functools.partial(call_in_namespace, center.lab.plan.outside_namespace("acme-front"))


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo(center: DataCenter, address: str, size: int) -> None:
    """Have a guest send back a stream of so many bytes."""
    data = os.urandom(size)
    with outside(center)(lambda: socket.create_connection((address, ECHO), timeout=30)) as stream:
        sending = threading.Thread(target=stream.sendall, args=(data,))
        sending.start()
        got = b""
        while len(got) < size:
            got += stream.recv(1 << 16)
        sending.join()
    assert got == data


def datagrams(center: DataCenter, address: str, sizes: list[int]) -> None:
    with outside(center)(lambda: socket.socket(family(address), socket.SOCK_DGRAM)) as sender:
        sender.settimeout(30)
        for size in sizes:
            sender.sendto(bytes(size), (address, 53))
            assert sender.recv(2000)


def pings(center: DataCenter, address: str, size: int) -> None:
    namespace = center.lab.plan.outside_namespace("acme-front")
    command = [
        "nsenter",
        f"--net=/run/netns/{namespace}",
        "ping",
        "-n",
        "-c",
        "3",
        "-i",
        "0.2",
        "-s",
        str(size),
        address,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def mix(center: DataCenter) -> None:
    for addresses in ADDRESSES.values():
        for address in addresses:
            echo(center, address, 1 << 18)
            datagrams(center, address, [1, 100, 1400, 5000])
            pings(center, address, 56)
            pings(center, address, 4000)
    asyncio.run(inside(center))


async def inside(center: DataCenter) -> None:
    """Each guest asks the other."""
    for here, there in ((WEB, APP), (APP, WEB)):
        async with center.lab.shell(f"acme-{here.rpartition(':')[2]}") as shell:
            for protocol, port in (("tcp", 80), ("udp", 53), ("icmp", 0)):
                found = await shell.probe(protocol, IPv4Address(ADDRESSES[there][0]), port, timeout_ms=5000)  # type: ignore[arg-type]
                assert found.ok, (here, there, protocol, found)


class Session:
    """A stream that is echoed for as long as the block runs."""

    def __init__(self, center: DataCenter, address: str) -> None:
        self._stream = outside(center)(lambda: socket.create_connection((address, ECHO), timeout=30))
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._running: Future[None] = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._running.result(60)
        self._stream.close()
        self._pool.shutdown()

    def _run(self) -> None:
        piece = bytes(5000)
        while not self._over.is_set():
            self._stream.sendall(piece)
            left = len(piece)
            while left:
                got = self._stream.recv(left)
                assert got, "the session was closed"
                left -= len(got)
            self.bytes += len(piece)
            time.sleep(0.01)


def watched(center: DataCenter, host: str, tap: str) -> Witness:
    return Witness(tap, within=functools.partial(call_in_namespace, center.lab.plan.host_namespace(host)))


def next_tap(center: DataCenter, host: str, known: set[str]) -> Witness:
    """Wait for a tap that is not there yet, and watch it from its first moment."""
    return watched(center, host, center.lab.host(host).next_tap(known, timeout_seconds=60))


def virsh(center: DataCenter, host: str, *words: str) -> subprocess.CompletedProcess[str]:
    return center.lab.host(host).run(["virsh", "-q", *words])


def virsh_migrate(center: DataCenter, to: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Do with web what an administrator does who knows nothing of Serai."""
    there = center.lab.host(to)
    target = [there.migration_uri(), "--migrateuri", f"tcp://{there.spec.underlay}", "--tls", "--tls-destination", to]
    return virsh(center, center.lab.where_is("acme-web"), "migrate", "--live", "--p2p", *options, "acme-web", *target)


def hypervisor_moves(center: DataCenter, to: str) -> None:
    done = virsh_migrate(center, to)
    assert done.returncode == 0, done.stderr


def last_moves(center: DataCenter, count: int) -> list[moveapi.Move]:
    """So many moves, the latest last, when they are over."""
    deadline = time.monotonic() + 60
    with center.controller.client() as client:
        while True:
            moves = client.ask("GET", "/v1/moves", moveapi.MoveList, params={"limit": str(count)}).moves
            if all(move.ended for move in moves):
                return list(reversed(moves))
            assert time.monotonic() < deadline, moves
            time.sleep(0.1)


def records(center: DataCenter, since: datetime) -> dict[str, Seen]:
    """What the controller has been told, by VM."""
    sums: dict[str, Seen] = {vm: collections.defaultdict(lambda: [0, 0, 0, 0]) for vm in ADDRESSES}
    params = {"since": since.isoformat(), "until": datetime.now(UTC).isoformat(), "limit": "500"}
    with center.controller.client() as client:
        while True:
            page = client.ask("GET", "/v1/flows", flowapi.FlowPage, params=params)
            for each in page.records:
                if each.verdict == "accepted":
                    add(sums[each.vm], each)
            if page.after is None:
                assert page.completeness.percent == 100, page.completeness
                return sums
            params["after"] = page.after


def add(sums: Seen, each: flowapi.Record) -> None:
    protocol = PROTOCOLS[each.protocol]
    ports = (each.local_port, each.remote_port) if protocol in {TCP, UDP} else (0, 0)
    flow: Flow = (protocol, each.remote, *ports)
    for place, number in enumerate((each.packets_out, each.bytes_out, each.packets_in, each.bytes_in)):
        sums[flow][place] += number


def test_records_are_what_was_seen_at_the_taps(center: DataCenter) -> None:
    began = datetime.now(UTC)
    time.sleep(
        2 * RECORD_SECONDS
    )  # records are kept by whole seconds: what is asked for begins between two intervals without traffic
    [first], [other] = (center.lab.host(host).taps() for host in "ab")
    seen: dict[str, list[Seen]] = {WEB: [], APP: []}
    with contextlib.ExitStack() as stack:
        for vm, host, tap in ((WEB, "a", first), (APP, "b", other)):
            seen[vm].append(stack.enter_context(watched(center, host, tap)).flows)
        mix(center)
        center.kill_agent("a")
        echo(center, ADDRESSES[WEB][1], 1 << 16)
        center.start_agent("a")
        mix(center)
        with Session(center, ADDRESSES[WEB][0]) as session, ThreadPoolExecutor(1) as pool:
            for to, move in (("b", lambda: center.move(WEB, "b")), ("a", lambda: hypervisor_moves(center, "a"))):
                known = center.lab.host(to).taps()
                moving: Future[object] = pool.submit(move)
                seen[WEB].append(stack.enter_context(next_tap(center, to, known)).flows)
                moving.result()
                before = session.bytes
                time.sleep(1)
                assert session.bytes > before, "the session goes on"
                mix(center)
        time.sleep(1)
    center.wait_told()
    told = records(center, began)
    for vm, places in seen.items():
        whole: Seen = collections.defaultdict(lambda: [0, 0, 0, 0])
        for place in places:
            for flow, counts in place.items():
                whole[flow] = [sum(pair) for pair in zip(whole[flow], counts, strict=True)]
        assert dict(told[vm]) == dict(whole)
        assert {flow[0] for flow in whole} == set(PROTOCOLS.values())
    assert all(seen[WEB]), "the VM was seen at both hosts"


def test_what_a_hypervisor_moves_by_itself_is_a_move(center: DataCenter) -> None:
    """There, and back at once; then one that is cancelled, and who moves it next."""
    with Session(center, ADDRESSES[WEB][0]) as session:
        for to in ("b", "a"):
            before = session.bytes
            hypervisor_moves(center, to)
        time.sleep(1)
        assert session.bytes > before, "the session goes on"
        # So slowly that it can be cancelled.
        virsh(center, "a", "migrate-setspeed", "acme-web", "1")
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(virsh_migrate, center, "b")
            deadline = time.monotonic() + 30
            while going.running() and "Memory" not in virsh(center, "a", "domjobinfo", "acme-web").stdout:
                assert time.monotonic() < deadline
            virsh(center, "a", "domjobabort", "acme-web")
            assert going.result(60).returncode
        virsh(center, "a", "migrate-setspeed", "acme-web", "8796093022207")
        there, back, cancelled = last_moves(center, 3)
        hypervisor_moves(center, "b")
        last_moves(center, 1)
        center.move(WEB, "a")
        before = session.bytes
        time.sleep(0.5)
        assert session.bytes > before, "and on"
    for move, to in ((there, "b"), (back, "a")):
        receipt = move.receipt
        assert receipt
        assert (receipt.made, receipt.by, receipt.ticket.to) == (True, f"hypervisor of host {to}", to), receipt
        assert (receipt.unheard, receipt.facts.refused, receipt.facts.unprotected) == ([], 0, 0), receipt
        assert receipt.facts.flows_first, "the session came along"
        assert receipt.facts.encrypted
    assert cancelled.receipt
    assert (cancelled.state, cancelled.receipt.made) == ("aborted", False)
    assert "given up" in cancelled.why or "told to" in cancelled.why, cancelled
