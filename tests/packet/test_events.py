"""The ring: what gates tell of at once, samples of drops and flows that ended in a gate, and what it has no room for."""

from __future__ import annotations

import collections
import itertools
import os
import select
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from cases import CLOSED, IN, OUT, PATH, PEER, V4, V6, Setup
from conftest import SIZES, GateUnderTest
from frames import ACK, RST, SYN, TCP, UDP, arp, ethernet, tcp, udp
from frames import ARP as ARP_TYPE

from serai.datapath.events import Ring
from serai.datapath.layout import DROP_EVENT, ENDED_EVENT, EVENT_DROP, EVENT_ENDED
from serai.datapath.object import GateObject
from serai.datapath.samples import Samples
from serai.datapath.tally import meter_counts
from serai.model.reasons import Reason
from serai.model.tenancy import Mode

pytestmark = pytest.mark.kernel

RING = 4096
"""Bytes: a page is the smallest that there is."""
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def small() -> Iterator[GateObject]:
    loaded = GateObject.load(None, sizes={**SIZES, "events": RING})
    yield loaded
    loaded.close()


@pytest.fixture
def gate(small: GateObject) -> Iterator[GateUnderTest]:
    made = GateUnderTest(small)
    made.guard(Setup().world(), PATH)
    yield made
    made.gates.samples.read()
    made.clear()


@pytest.fixture
def ring(gate: GateUnderTest) -> Iterator[Ring]:
    """A reader of its own, as a new agent is."""
    made = Ring(os.dup(gate.object.ring))
    made.read()
    yield made
    made.close()


def deny(gate: GateUnderTest, port: int) -> None:
    """Tells of a drop, because there was none of its kind before."""
    assert gate.send(OUT, V4.out(TCP, tcp(1, port, SYN))).reason is Reason.DENIED


def reset(gate: GateUnderTest, source: int) -> None:
    """Opens a connection and has it end."""
    assert gate.send(OUT, V4.out(TCP, tcp(source, 443, SYN))).passed
    assert gate.send(IN, V4.into(TCP, tcp(443, source, RST | ACK, seq=0, ack=2))).passed


def lost(gate: GateUnderTest) -> int:
    return gate.gates.lost()[1]


def lost_ends(gate: GateUnderTest) -> int:
    """As they are told of (``Losses.ring``)."""
    vnics, meters = gate.gates._slots.meters()
    _, counts = meter_counts(np.array(vnics, "<u8"), meters)
    return int(counts[:, -1].sum())


def test_nothing_to_read(ring: Ring) -> None:
    for _ in range(2):
        found = ring.read()
        assert (found[EVENT_DROP].dtype, found[EVENT_ENDED].dtype) == (DROP_EVENT, ENDED_EVENT)
        assert (len(found[EVENT_DROP]), len(found[EVENT_ENDED])) == (0, 0)


def test_events_come_in_their_order_each_once(gate: GateUnderTest, ring: Ring) -> None:
    """Many times round the ring: records end at every place of it."""
    lost_before, seen, port = lost(gate), [], 1000
    for batch in range(60):
        for _ in range(batch % 9):
            deny(gate, port)
            port += 1
        seen += ring.read()[EVENT_DROP]["port"].tolist()
        assert len(ring.read()[EVENT_DROP]) == 0
        if batch % 10 == 9:
            gate.forget()  # there are many more kinds than records
    assert seen == list(range(1000, port))
    assert port * (DROP_EVENT.itemsize + 8) > 5 * RING
    assert lost(gate) == lost_before


def test_what_finds_no_room_is_counted(gate: GateUnderTest, ring: Ring) -> None:
    before, ends_before = lost(gate), lost_ends(gate)
    for port in range(1000, 1100):
        deny(gate, port)
    found = ring.read()[EVENT_DROP]["port"].tolist()
    assert found == list(range(1000, 1000 + len(found))), "what comes too late is what is lost"
    assert 0 < len(found) < 100
    assert len(found) + lost(gate) - before == 100
    assert lost_ends(gate) == ends_before, "samples are no flows"
    deny(gate, 1100)
    assert ring.read()[EVENT_DROP]["port"].tolist() == [1100], "there is room again"


def test_ended_flows_that_find_no_room_are_counted(gate: GateUnderTest, ring: Ring) -> None:
    before = lost_ends(gate)
    for source in range(1, 41):
        reset(gate, source)
    for source in range(1, 41):
        assert gate.send(OUT, V4.out(TCP, tcp(source, 443, SYN))).passed, "its ports begin another connection"
    ended = ring.read()[EVENT_ENDED]
    assert ended["key"]["local_port"].tolist() == list(range(1, 1 + len(ended)))
    assert 0 < len(ended) < 40
    assert len(ended) + lost_ends(gate) - before == 40


def test_a_reader_keeps_up_with_a_gate_that_goes_on(gate: GateUnderTest, ring: Ring) -> None:
    before, found, count = lost(gate), 0, 600

    def send() -> None:
        for port in range(count):
            deny(gate, 1000 + port)

    sending = threading.Thread(target=send)
    sending.start()
    while sending.is_alive():
        found += len(ring.read()[EVENT_DROP])
    sending.join()
    found += len(ring.read()[EVENT_DROP])
    assert found + lost(gate) - before == count


def test_another_reader_goes_on_where_the_last_one_stopped(gate: GateUnderTest, ring: Ring) -> None:
    deny(gate, 1000)
    assert ring.read()[EVENT_DROP]["port"].tolist() == [1000]
    deny(gate, 1001)
    later = Ring(os.dup(gate.object.ring))
    assert later.read()[EVENT_DROP]["port"].tolist() == [1001]
    later.close()
    assert len(ring.read()[EVENT_DROP]) == 0


def test_the_ring_wakes_who_waits_for_it(gate: GateUnderTest, ring: Ring) -> None:
    waiting = select.epoll()
    waiting.register(ring.fd, select.EPOLLIN)
    assert waiting.poll(0) == []
    deny(gate, 1000)
    assert waiting.poll(1) == [(ring.fd, select.EPOLLIN)]
    ring.read()
    assert waiting.poll(0) == []
    waiting.close()


def test_what_a_sample_tells(gate: GateUnderTest, ring: Ring) -> None:
    samples = Samples(ring, gate.flows)
    began = time.monotonic_ns()
    gate.send(OUT, V6.out(UDP, udp(1234, 99, b"twelve bytes")))
    gate.send(IN, V4.into(TCP, tcp(443, 1000, RST | ACK)))
    gate.send(
        OUT, ethernet("52:54:00:00:00:01", "ff:ff:ff:ff:ff:ff", ARP_TYPE, arp(1, "52:54:00:00:00:01", PEER, PEER))
    )
    samples.read()
    now = time.monotonic_ns()
    denied, lost_one, forged = samples.latest(now)
    (vnic,) = gate.gates.bound().values()
    assert {denied.vnic, lost_one.vnic, forged.vnic} == {vnic}
    assert (denied.direction, denied.reason, denied.protocol, denied.port) == (OUT, Reason.DENIED, UDP, 99)
    assert (str(denied.local), str(denied.remote)) == (V6.vm, V6.peer)
    assert (denied.local_port, denied.remote_port, denied.length) == (1234, 99, 14 + 40 + 8 + 12)
    assert denied.rule != 0, "the rule that decided"
    assert (lost_one.direction, lost_one.reason, lost_one.tcp_flags) == (IN, Reason.NO_FLOW, RST | ACK)
    assert (lost_one.local_port, lost_one.remote_port, lost_one.port, lost_one.rule) == (1000, 443, 1000, 0)
    assert (forged.reason, forged.protocol, str(forged.local)) == (Reason.FOREIGN_ARP, 0, PEER)
    assert not any(sample.observed for sample in (denied, lost_one, forged))
    coarse = 0.02
    assert all(0 <= s.age_seconds <= (now - began) / SECOND + coarse for s in (denied, lost_one, forged))


def test_an_observed_drop_says_so(gate: GateUnderTest, ring: Ring) -> None:
    gate.guard(Setup().world(), PATH, mode=Mode.OBSERVE)
    gate.send(OUT, V4.out(TCP, tcp(1, 443, SYN), source=PEER))
    (event,) = ring.read()[EVENT_DROP]
    assert (event["reason"], event["observed"]) == (Reason.FOREIGN_IP, 1)


def test_one_sample_a_second_of_each_kind(gate: GateUnderTest, ring: Ring) -> None:
    """However many packets there are, and however often it is read."""
    kinds = {
        80: V4.out(TCP, tcp(1, 80, SYN)), 81: V4.out(TCP, tcp(1, 81, SYN)), 82: V6.out(UDP, udp(1, 82)),
    }  # fmt: skip
    told = collections.defaultdict(list)
    until = time.monotonic() + 3.3
    packets = 0
    while time.monotonic() < until:
        for frame in kinds.values():
            assert gate.send(OUT, frame).reason is Reason.DENIED
            packets += 1
        for event in ring.read()[EVENT_DROP]:
            told[int(event["port"])].append(int(event["ns"]))
    assert packets > 100
    assert told.keys() == kinds.keys()
    for times in told.values():
        assert 2 <= len(times) <= 4
        assert all(later - earlier >= SECOND for earlier, later in itertools.pairwise(times))


def test_the_latest_samples_are_kept(gate: GateUnderTest, ring: Ring) -> None:
    samples = Samples(ring, gate.flows, remember=10)
    for port in range(1000, 1025):
        deny(gate, port)
        samples.read()
    assert [sample.port for sample in samples.latest(0)] == list(range(1015, 1025))
    assert samples.seen == 25


def test_a_flow_that_ended_in_the_gate_is_remembered(gate: GateUnderTest, ring: Ring) -> None:
    """Its ports begin another connection: what the first has counted is not lost."""
    samples = Samples(ring, gate.flows)
    reset(gate, 1000)
    assert gate.send(OUT, V4.out(TCP, tcp(1000, 443, SYN, seq=77))).passed
    assert gate.send(IN, V4.into(TCP, tcp(443, 1000, SYN | ACK, ack=78))).passed
    assert len(gate.rows()) == 1
    samples.read()
    counts = sorted((row.packets_out, row.packets_in, row.bytes_in, row.port) for row in gate.rows())
    assert counts == [(1, 1, 54, 443), (1, 1, 54, 443)]


def test_a_flow_that_is_over_is_told_of_once(gate: GateUnderTest, ring: Ring) -> None:
    """However often others knock at its ports: it stays until it is swept, and crowds nobody out of the ring."""
    reset(gate, 1000)
    gate.guard(Setup(policies=CLOSED).world(), PATH)
    for seq in range(5):
        assert gate.send(OUT, V4.out(TCP, tcp(1000, 443, SYN, seq=seq))).reason is Reason.DENIED
    assert len(ring.read()[EVENT_ENDED]) == 0
    assert gate.flows.sweep(time.monotonic_ns() + 11 * SECOND) == 1


def test_a_flow_that_policy_cut_is_remembered(gate: GateUnderTest, ring: Ring) -> None:
    samples = Samples(ring, gate.flows)
    assert gate.send(OUT, V4.out(TCP, tcp(1000, 443, SYN))).passed
    gate.guard(Setup(policies=CLOSED).world(), PATH)
    assert gate.send(IN, V4.into(TCP, tcp(443, 1000, SYN | ACK, ack=2))).reason is Reason.DENIED
    assert gate.flows.count() == 0
    samples.read()
    (row,) = gate.rows()
    assert (row.packets_out, row.packets_in, row.port) == (1, 0, 443)
    assert samples.seen == 1, "and the drop is a sample"
