"""What records say of traffic is what a packet socket on the tap has seen: bytes and packets of each flow, exactly.

A mixed run of real stacks: TCP with super-segments (BIG TCP among them), UDP in one piece and in fragments, pings, both versions of IP,
opened by either side; the agent is killed in the midst of it, and another goes on.
"""

from __future__ import annotations

import collections
import hashlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cases import OPEN, PATH, PEER, PEER6, VM, VM6, Setup
from conftest import GateUnderTest
from frames import ICMP, ICMPV6, TCP, UDP
from namespaces import isolated, mount_bpf
from test_meter import Agent, rows
from test_taps import SO_RCVBUFFORCE, ask, listen, neighborhood, serve

from serai.datapath.attach import Attacher
from serai.datapath.object import GateObject
from serai.model.address import unpack

_SOL_PACKET, _PACKET_STATISTICS, _PACKET_VNET_HDR, _OUTGOING = 263, 6, 15, 4
_ROOM = 256 << 20
_LONGEST = 1 << 19

Flow = tuple[int, str, int, int]
"""Protocol, the other end's address, the VM's port, the other end's (of pings: none)."""
Seen = dict[Flow, list[int]]
"""Packets and bytes from the VM, then to it."""


class Witness:
    """Counts what passes at an interface, and knows nothing of gates."""

    def __init__(self, interface: str) -> None:
        self.flows: Seen = collections.defaultdict(lambda: [0, 0, 0, 0])
        self._pieces: dict[tuple[str, str, int], Flow] = {}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _ROOM)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.bind((interface, 0x0003))
        self._socket.settimeout(0.3)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()
        seen, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()
        assert not dropped, f"{dropped} of {seen} frames came too fast for the witness"

    def _watch(self) -> None:
        while True:
            try:
                raw, where = self._socket.recvfrom(_LONGEST)
            except TimeoutError:
                if self._enough.is_set():  # and nothing is left
                    return
                continue
            self._count(raw[:10], raw[10:], outgoing=where[2] == _OUTGOING)

    def _count(self, header: bytes, frame: bytes, *, outgoing: bool) -> None:
        found = self._flow(frame, to_vm=outgoing)
        if found is None:
            return
        flow, headers = found
        _, kind, _, segment = struct.unpack("<BBHH", header[:6])
        packets = -(-(len(frame) - headers) // segment) if kind and segment else 1
        counts = self.flows[flow]
        counts[2 * outgoing] += packets
        counts[2 * outgoing + 1] += len(frame)

    def _flow(self, frame: bytes, *, to_vm: bool) -> tuple[Flow, int] | None:
        ether, body = frame[12:14], frame[14:]
        if ether == b"\x08\x00":
            at, protocol = (body[0] & 15) * 4, body[9]
            ends = [socket.inet_ntop(socket.AF_INET, body[12 + 4 * end : 16 + 4 * end]) for end in (0, 1)]
            number, piece = struct.unpack(">HH", body[4:8])
            offset, more = piece & 0x1FFF, piece >> 13 & 1
        elif ether == b"\x86\xdd":
            at, protocol, offset, more, number = 40, body[6], 0, 0, 0
            ends = [socket.inet_ntop(socket.AF_INET6, body[8 + 16 * end : 24 + 16 * end]) for end in (0, 1)]
            if protocol == 0:  # a jumbo option (RFC 2675), in front of segments that no length field can tell
                protocol, at = body[40], 48
            if protocol == 44:
                protocol = body[40]
                piece, number = struct.unpack(">HI", body[42:48])
                offset, more, at = piece >> 3, piece & 1, 48
        else:
            return None
        key = (ends[0], ends[1], number)
        if offset:
            return self._pieces[key], 14 + at
        remote = ends[0] if to_vm else ends[1]
        if protocol in {TCP, UDP}:
            ports = struct.unpack(">HH", body[at : at + 4])
            mine, theirs = reversed(ports) if to_vm else ports
            length = (body[at + 12] >> 4) * 4 if protocol == TCP else 8
            flow = protocol, remote, mine, theirs
        elif body[at] in ({0, 8} if protocol == ICMP else {128, 129}):
            flow, length = (protocol, remote, 0, 0), 8
        else:
            return None  # what finds neighbors has no flow
        if more:
            self._pieces[key] = flow
        return flow, 14 + at + length


def told(rows: Iterator[dict[str, Any]] | list[dict[str, Any]], sums: Seen) -> None:
    for row in rows:
        ports = (row["local_port"], row["remote_port"]) if row["protocol"] in {TCP, UDP} else (0, 0)
        counts = sums[row["protocol"], str(unpack(row["remote"])), *ports]
        for place, name in enumerate(("packets_out", "bytes_out", "packets_in", "bytes_in")):
            counts[place] += row[name]


def datagrams(target: tuple[str, int], sizes: list[int]) -> None:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(20)
        for size in sizes:
            sender.sendto(bytes(size), target)
            assert len(sender.recv(1 << 16)) == size


def echo(listener: socket.socket, count: int) -> None:
    with listener:
        listener.settimeout(20)
        for _ in range(count):
            raw, sender = listener.recvfrom(1 << 16)
            listener.sendto(raw, sender)


def bound(address: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((address, number))
    return made


def ping(target: str, count: int) -> None:
    version6 = ":" in target
    family, protocol = (socket.AF_INET6, ICMPV6) if version6 else (socket.AF_INET, ICMP)
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(20)
        for number in range(count):
            message = struct.pack(">BBHHH", 128 if version6 else 8, 0, 0, 7, number) + bytes(100)
            raw.sendto(message if version6 else message[:2] + checksum(message) + message[4:], (target, 0))
            while raw.recv(2000)[0 if version6 else 20] != (129 if version6 else 0):
                pass


def checksum(raw: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(raw) // 2}H", raw))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


@isolated
def test_records_are_what_a_packet_socket_has_seen(loaded_gate: GateObject, tmp_path: Path) -> None:
    gate = GateUnderTest(loaded_gate)
    question, answer = random.Random(1).randbytes(1 << 19), random.Random(2).randbytes(1 << 20)
    sizes = [1, 100, 1400, 8000, 30_000]
    sums: Seen = collections.defaultdict(lambda: [0, 0, 0, 0])
    with neighborhood() as (vm, peer):
        Attacher(mount_bpf(tmp_path / "bpf") / "links", loaded_gate.programs).attach(socket.if_nametoindex("vm0"))
        agent = Agent(loaded_gate, tmp_path / "records")
        gate.gates, gate.flows = agent.gates, agent.gates.flows
        gate.guard(Setup(policies=OPEN).world(), PATH, ifindex=socket.if_nametoindex("vm0"))
        agent.told()
        try:
            with Witness("vm0") as witness:
                runs = ((vm, peer, PEER), (vm, peer, PEER6), (peer, vm, VM), (peer, vm, VM6))
                for turn in range(2):
                    for client, server, target in runs:
                        served = server.submit(serve, server.submit(listen, target, 443).result(), answer)
                        assert (
                            client.submit(ask, (target, 443), question).result() == hashlib.sha256(answer).hexdigest()
                        )
                        served.result()
                        echoed = server.submit(echo, server.submit(bound, target, 53).result(), len(sizes))
                        client.submit(datagrams, (target, 53), sizes).result()
                        echoed.result()
                        client.submit(ping, target, 5).result()
                        told(agent.told(), sums)
                    if not turn:  # it is killed: what it has not told the next one does
                        last = agent.teller._spool.number
                        vm.submit(ping, PEER, 3).result()
                        agent = Agent(loaded_gate, tmp_path / "records")
                        gate.gates, gate.flows = agent.gates, agent.gates.flows
                        sums_of_the_next(agent, last, sums)
            told(agent.told(), sums)
            assert dict(sums) == dict(witness.flows)
            assert {flow[0] for flow in sums} == {TCP, UDP, ICMP, ICMPV6}
            assert len([flow for flow in sums if flow[0] == TCP]) == 8
            assert any(counts[0] * 1514 < counts[1] or counts[2] > 100 for counts in sums.values())
        finally:
            gate.gates.unbind(socket.if_nametoindex("vm0"))
            gate.clear()


def sums_of_the_next(agent: Agent, last: int, sums: Seen) -> None:
    """Add what an agent has told at its start of what the one before it had not."""

    batch = agent.teller.after((agent.teller._spool.name, last))
    if batch is not None:
        told(rows(batch), sums)
