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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import OPEN, PATH, PEER, PEER6, VM, VM6, Setup
from conftest import GateUnderTest
from frames import ICMP, ICMPV6, TCP, UDP
from namespaces import isolated, mount_bpf
from test_meter import Agent, rows
from test_taps import ask, listen, neighborhood, serve

from serai.datapath.attach import Attacher
from serai.datapath.object import GateObject
from serai.model.address import unpack
from witness import Seen, Witness


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
