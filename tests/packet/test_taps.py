"""What BPF_PROG_TEST_RUN cannot express: tags in metadata, short and huge frames, bridges that learn, real stacks."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cases import (
    ACCEPT,
    CLOSED,
    FAMILIES,
    IN,
    LINK6,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER,
    PEER6,
    PEER_LINK6,
    PEER_MAC,
    STANDARD,
    V4,
    V6,
    VM,
    VM6,
    Family,
    Setup,
    policy,
    port,
)
from conftest import GateUnderTest
from frames import (
    ACK,
    ARP,
    BROADCAST,
    ICMPV6,
    PSH,
    SYN,
    TCP,
    UDP,
    arp,
    dhcp,
    ethernet,
    fragment6,
    mac,
    na,
    tagged,
    target_link,
    tcp,
    udp,
)
from namespaces import Station, Tap, add_bridge, allow_big_segments, ip, isolated, mount_bpf
from reference import Station as Reader
from test_gate_frames import SPOKEN, STACKS

from serai.datapath.attach import Attacher
from serai.datapath.object import GateObject
from serai.model.policy import Direction
from serai.model.reasons import Reason


class Street:
    """A guarded VM's tap and a neighbor's, which has no gate, on one bridge."""

    def __init__(self, gate: GateUnderTest, *, offloads: bool = False) -> None:
        self.gate = gate
        self.vm, self.peer = Tap("vm0", offloads=offloads), Tap("peer0", offloads=offloads)
        add_bridge("br0")
        for name in ("vm0", "peer0", "br0"):
            ip("link", "set", name, "mtu", 9000, "up")
        for name in ("vm0", "peer0"):
            ip("link", "set", name, "master", "br0")
        empty = bytes(10) if offloads else b""
        for tap, address in ((self.vm, MAC), (self.peer, PEER_MAC)):  # each learns where the other is
            tap.send(empty + ethernet(address, BROADCAST, ARP, arp(1, address, "0.0.0.0", VM)))  # noqa: S104  # a probe
        self.flush()

    def send(self, direction: Direction, frame: bytes) -> tuple[Reason, list[bytes]]:
        """Send a frame; return for what it was dropped, and what came out."""
        near, far = (self.vm, self.peer) if direction is OUT else (self.peer, self.vm)
        before = self.gate.counts()
        near.send(frame)
        return self.gate.reason_since(before, direction), far.received()

    def flush(self) -> None:
        self.vm.received()
        self.peer.received()


@contextlib.contextmanager
def street(
    loaded: GateObject, setup: Setup, bpf: Path, *, offloads: bool = False, guarded: bool = True
) -> Iterator[Street]:
    """A street whose VM is guarded, on a bpffs at ``bpf``; everything goes with the caller's namespaces."""
    gate = GateUnderTest(loaded)
    made = Street(gate, offloads=offloads)
    try:
        if guarded:
            Attacher(mount_bpf(bpf) / "links", loaded.programs).attach(made.vm.ifindex)
            gate.guard(setup.world(), PATH, ifindex=made.vm.ifindex)
        yield made
    finally:
        made.vm.delete()
        made.peer.delete()
        gate.clear()


@isolated
def test_tags_whether_in_the_metadata_or_not(loaded_gate: GateObject, tmp_path: Path) -> None:
    """The kernel takes the outermost tag out of the frame before the gate sees it."""
    with street(loaded_gate, Setup(policies=OPEN), tmp_path / "bpf") as found:
        for stack, tags in STACKS.items():
            for what, frame in SPOKEN.items():
                for direction in (OUT, IN):
                    addressed = frame if direction is OUT else mac(MAC) + mac(PEER_MAC) + frame[12:]
                    sent = tagged(addressed, *tags)
                    assert found.send(direction, sent) == (Reason.VLAN, []), f"{stack}, {what} inside"
        assert found.gate.flows.count() == 0
        frame = SPOKEN["ICMP"]
        assert found.send(OUT, frame) == (Reason.NONE, [frame])


SHORT_OF = {
    "IPv4": V4.out(UDP, udp(1000, 53)),
    "IPv6": V6.out(UDP, udp(1000, 53)),
    "options": V4.out(TCP, tcp(1, 443, SYN), options=b"\1" * 12),
    "NA": V6.out(ICMPV6, na(VM6, target_link(MAC)), hops=255),
    "fragment": V6.out(44, fragment6(UDP, udp(1, 53, bytes(8)), more=True)),
    "ARP": ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER)),
    "DHCP": V4.out(UDP, udp(68, 67, dhcp(1, MAC)), target="255.255.255.255", to=BROADCAST),
    "another type": ethernet(MAC, PEER_MAC, 0x88CC, bytes(60)),
    "a length": ethernet(MAC, PEER_MAC, 40, bytes(60)),
    "IPv4 to the VM": V4.into(UDP, udp(1000, 5000)),
    "IPv6 to the VM": V6.into(UDP, udp(1000, 5000)),
}


@isolated
def test_every_beginning_of_a_frame(loaded_gate: GateObject, tmp_path: Path) -> None:
    """From a bare Ethernet header to all of it: the slow reader says what must become of each."""
    addresses = {"held": (VM, VM6, LINK6), "others": (PEER, PEER6, PEER_LINK6)}
    reader = Reader(
        mac=mac(MAC), accepts=True,
        **{who: frozenset(ipaddress.ip_address(a).packed for a in those) for who, those in addresses.items()},
    )  # fmt: skip
    with street(loaded_gate, Setup(policies=OPEN), tmp_path / "bpf") as found:
        for what, whole in SHORT_OF.items():
            direction = IN if what.endswith("VM") else OUT
            for length in range(14, len(whole) + 1):
                found.gate.forget()
                reason, came = found.send(direction, whole[:length])
                assert {reason} == reader.decide(whole[:length], outwards=direction is OUT), f"{length} bytes of {what}"
                assert came == ([] if reason else [whole[:length]])


def stations(bridge: str) -> set[tuple[str, str]]:
    """Which MAC addresses a bridge believes to be where."""
    shown = subprocess.run(["bridge", "-j", "fdb", "show", "br", bridge], check=True, capture_output=True).stdout
    return {(entry["mac"], entry["ifname"]) for entry in json.loads(shown)}


@isolated
@pytest.mark.parametrize("guarded", [True, False], ids=["with a gate", "without"])
def test_a_bridge_learns_nothing_from_forged_frames(loaded_gate: GateObject, tmp_path: Path, *, guarded: bool) -> None:
    choice = random.Random(1)
    with street(loaded_gate, Setup(policies=OPEN), tmp_path / "bpf", guarded=guarded) as found:
        before = stations("br0")
        assert (MAC, "vm0") in before
        for number in range(1000):
            source = bytes((choice.randrange(256) & 0xFE, *choice.randbytes(5))) if number else mac(PEER_MAC)
            frame = V4.out(UDP, udp(1000, 53), mac=source.hex(":"))
            if guarded:
                assert found.send(OUT, frame) == (Reason.FOREIGN_MAC, [])
            else:
                found.vm.send(frame)
        assert (stations("br0") == before) == guarded
        assert ((PEER_MAC, "vm0") in stations("br0")) != guarded, "the peer's traffic is where it was"


# Segments that are cut later


def super_segment(family: Family, target: int, size: int, *, flags: int = ACK | PSH, **ends: str) -> bytes:
    """A frame as a VM's network card hands it over: a virtio_net_hdr (virtio 1.2, 5.1.6), and up to 64 KB."""
    frame = family.out(TCP, tcp(1000, target, flags, bytes(size), seq=2, ack=2), **ends)
    header = len(frame) - size
    kind = 1 if family is V4 else 4
    return struct.pack("<BBHHHH", 1, kind, header, 1448, header - 20, 16) + frame


@isolated
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_super_segments_meet_the_verdict_of_their_segments(
    loaded_gate: GateObject, tmp_path: Path, *, family: Family
) -> None:
    empty = bytes(10)
    with street(loaded_gate, Setup(policies=STANDARD), tmp_path / "bpf", offloads=True) as found:

        def whole(*more: object, **ends: str) -> tuple[Reason, int]:
            reason, came = found.send(OUT, super_segment(family, *more, **ends))  # type: ignore[arg-type]
            return reason, sum(len(frame) - 10 for frame in came)

        headers = 54 if family is V4 else 74
        largest = 65535 - headers
        assert whole(443, 60000) == (Reason.NO_FLOW, 0)
        opening = [
            (OUT, family.out(TCP, tcp(1000, 443, SYN, window=60000))),
            (IN, family.into(TCP, tcp(443, 1000, SYN | ACK, ack=2, window=65535))),
        ]
        for direction, frame in opening:
            assert found.send(direction, empty + frame) == (Reason.NONE, [empty + frame])
        assert whole(443, 60000) == (Reason.NONE, headers + 60000)
        assert whole(443, largest) == (Reason.NONE, headers + largest)
        assert whole(80, 60000) == (Reason.NO_FLOW, 0)
        assert whole(80, 60000, flags=SYN) == (Reason.DENIED, 0)
        assert whole(443, 60000, mac=PEER_MAC) == (Reason.FOREIGN_MAC, 0)
        assert whole(443, 60000, source=family.stranger) == (Reason.FOREIGN_IP, 0)
        (row,) = found.gate.rows()
        assert row.packets_out == 1 + -(-60000 // 1448) + -(-largest // 1448), "segments are counted"


@isolated
def test_jumbo_frames(loaded_gate: GateObject, tmp_path: Path) -> None:
    with street(loaded_gate, Setup(), tmp_path / "bpf") as found:
        for family in FAMILIES:
            for size in (3000, 8900):
                allowed, denied = (family.out(UDP, udp(1000, to, bytes(size))) for to in (53, 54))
                assert found.send(OUT, allowed) == (Reason.NONE, [allowed])
                assert found.send(OUT, denied) == (Reason.DENIED, [])


# Real stacks

BIG = 180_000
SIZE = 6 << 20
SO_RCVBUFFORCE = 33
SERVICE = policy("out", OUT, (ACCEPT, None, (port(TCP, 443),))), policy("in", IN, (ACCEPT, None, (port(TCP, 22),)))


def serve(listener: socket.socket, answer: bytes) -> str:
    """Read all there is from one connection, answer, and return the digest of what came."""
    with listener:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            digest = hashlib.sha256()
            while part := connection.recv(1 << 20):
                digest.update(part)
            connection.sendall(answer)
    return digest.hexdigest()


def ask(target: tuple[str, int], question: bytes) -> str:
    """Send, close one side, and return the digest of what comes back."""
    with socket.create_connection(target, timeout=20) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while part := connection.recv(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def listen(address: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, number), family=family)
    listener.settimeout(20)
    return listener


@contextlib.contextmanager
def neighborhood() -> Iterator[tuple[Station, Station]]:
    """Two machines of their own on a bridge: the VM behind vm0, the peer behind peer0."""
    with Station() as vm, Station() as peer:
        add_bridge("br0")
        ends = ((vm, "vm0", MAC, VM, VM6), (peer, "peer0", PEER_MAC, PEER, PEER6))
        for station, name, address, four, six in ends:
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "address", address, "netns", station.thread)
            allow_big_segments(name, BIG)
            station.submit(allow_big_segments, "eth0", BIG).result()
            ip("link", "set", name, "master", "br0", "up")
            station.ip("addr", "add", f"{four}/24", "dev", "eth0")
            station.ip("addr", "add", f"{six}/64", "dev", "eth0", "nodad")
            station.ip("link", "set", "eth0", "up")
        yield vm, peer


@isolated
@pytest.mark.parametrize("size", [0, 1, SIZE])
def test_real_stacks_talk_through_the_gate(loaded_gate: GateObject, tmp_path: Path, *, size: int) -> None:
    """Opened by either side, over both versions, with segments of up to BIG bytes; and nothing is dropped on the way."""
    gate = GateUnderTest(loaded_gate)
    question, answer = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    with neighborhood() as (vm, peer):
        Attacher(mount_bpf(tmp_path / "bpf") / "links", loaded_gate.programs).attach(socket.if_nametoindex("vm0"))
        gate.guard(Setup(policies=SERVICE).world(), PATH, ifindex=socket.if_nametoindex("vm0"))
        seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0003))
        seen.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 * SIZE)
        seen.bind(("vm0", 0x0003))
        try:
            before = gate.counts()
            for client, server, target, number in (
                (vm, peer, PEER, 443), (vm, peer, PEER6, 443), (peer, vm, VM, 22), (peer, vm, VM6, 22),
            ):  # fmt: skip
                served = server.submit(serve, server.submit(listen, target, number).result(), answer)
                asked = client.submit(ask, (target, number), question)
                assert asked.result() == hashlib.sha256(answer).hexdigest()
                assert served.result() == hashlib.sha256(question).hexdigest()
            assert (gate.counts() == before).all(), gate.denials()
            rows = [row for row in gate.rows() if row.protocol == TCP]
            assert sorted((row.direction, row.port) for row in rows) == [(OUT, 443)] * 2 + [(IN, 22)] * 2
            assert all(min(row.bytes_out, row.bytes_in) > size for row in rows)
            with pytest.raises(TimeoutError):
                vm.submit(socket.create_connection, (PEER, 80), 0.3).result()
            assert {row.reason for row in gate.denials() if row.vnic} == {Reason.DENIED}
            if size == SIZE:
                assert longest(seen) > 0xFFFF, "there were segments that no length field can tell"
        finally:
            gate.gates.unbind(socket.if_nametoindex("vm0"))
            gate.clear()


def longest(seen: socket.socket) -> int:
    """The length of the longest frame that a packet socket has seen."""
    length = 0
    with seen, contextlib.suppress(BlockingIOError):
        while True:
            length = max(length, seen.recv_into(bytearray(1), 1, socket.MSG_TRUNC))
    return length


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@isolated
def test_a_denied_neighborhood_is_silent_but_polite(loaded_gate: GateObject, tmp_path: Path) -> None:
    """Real stacks find each other, detect duplicates and join groups under a policy that accepts nothing."""
    gate = GateUnderTest(loaded_gate)
    with neighborhood() as (vm, _):
        Attacher(mount_bpf(tmp_path / "bpf") / "links", loaded_gate.programs).attach(socket.if_nametoindex("vm0"))
        gate.guard(Setup(policies=CLOSED).world(), PATH, ifindex=socket.if_nametoindex("vm0"))
        try:
            vm.ip("link", "set", "eth0", "down")
            vm.ip("link", "set", "eth0", "up")  # solicits routers, reports groups, detects duplicates
            vm.ip("addr", "add", f"{VM6}/64", "dev", "eth0")
            wait_until(lambda: not vm.submit(ip, "addr", "show", "dev", "eth0", "tentative").result())
            for target in (PEER, PEER6):
                with pytest.raises(TimeoutError):
                    vm.submit(socket.create_connection, (target, 443), 0.5).result()
            assert {(row.reason, row.protocol) for row in gate.denials() if row.vnic} == {(Reason.DENIED, TCP)}
            found = vm.submit(ip, "neigh", "show", PEER).result() + vm.submit(ip, "neigh", "show", PEER6).result()
            assert found.count(PEER_MAC) == 2, "the neighbor is known in both versions"
        finally:
            gate.gates.unbind(socket.if_nametoindex("vm0"))
            gate.clear()
