"""Records of denials: swept out of the kernel when they are over, or when there is no room; none is lost by that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Address

import numpy as np
import pytest
from cases import IN, OUT, PATH, PEER, STRANGER, V4, Setup
from conftest import PROGRAM, GateUnderTest
from frames import SYN, TCP, UDP, tcp, udp

from serai.datapath import testrun
from serai.datapath.denials import Denials
from serai.datapath.layout import DENIAL, DENIAL_KEY, INGRESS
from serai.datapath.maps import Map
from serai.model.address import pack
from serai.model.flow import FlowRow, Outcome
from serai.model.reasons import Reason
from serai.model.tenancy import Mode

pytestmark = pytest.mark.kernel

SECOND = 1_000_000_000
IDLE = 30 * SECOND
HALF = 512
"""Of the room that the gate under test has."""


@pytest.fixture
def kernel(gate: GateUnderTest) -> Iterator[Map]:
    """The gate's own map, for records made up."""
    yield gate.object.maps["denials"]
    gate.object.maps["denials"].delete(gate.object.maps["denials"].dump()[0])


def write(kernel: Map, count: int, *, start: int = 0, last_ns: int = 0, packets: int = 1) -> None:
    """Records that are told apart by their port."""
    keys, values = np.zeros(count, DENIAL_KEY), np.zeros(count, DENIAL)
    keys["vnic"], keys["identity"], keys["protocol"], keys["reason"] = 7, 8, UDP, Reason.DENIED
    keys["direction"], keys["port"] = INGRESS, np.arange(start, start + count)
    values["packets"], values["bytes"], values["last_ns"], values["rule"] = packets, 100 * packets, last_ns, 9
    values["remote"] = list(pack(IPv4Address(PEER)))
    kernel.update(keys, values)


def in_kernel(kernel: Map) -> int:
    return len(kernel.dump()[0])


def packets(denials: Denials) -> int:
    return sum(row.packets_in + row.packets_out for row in denials.rows(0))


def test_a_record_says_what_the_gate_saw(gate: GateUnderTest) -> None:
    gate.guard(Setup().world(), PATH)
    for source in (1, 2, 3):
        gate.send(OUT, V4.out(TCP, tcp(source, 80, SYN)))
    gate.send(IN, V4.into(UDP, udp(9, 6000), source=STRANGER))
    rows = {row.direction: row for row in gate.denials()}
    assert len(gate.denials()) == 2
    out, into = rows[OUT], rows[IN]
    assert (out.packets_out, out.packets_in, out.bytes_out, out.port, str(out.remote)) == (3, 0, 3 * 54, 80, PEER)
    assert (into.packets_out, into.packets_in, into.port, str(into.remote)) == (0, 1, 6000, STRANGER)
    assert out.identity != 0, "policy tells the peer apart"
    assert into.identity == 0, "and nobody else"
    assert {row.outcome for row in rows.values()} == {row.staged for row in rows.values()} == {Outcome.DENIED}
    assert all(row.age_seconds < 5 for row in rows.values())


def test_a_record_is_swept_when_it_is_over_and_not_before(gate: GateUnderTest) -> None:
    gate.guard(Setup().world(), PATH)
    gate.send(OUT, V4.out(TCP, tcp(1, 80, SYN)))
    kernel, denials = gate.object.maps["denials"], gate.gates.denials
    last = int(kernel.dump()[1]["last_ns"][0])
    before = list(denials.rows(last))
    assert denials.sweep(last + IDLE - 1) == 0
    assert in_kernel(kernel) == 1
    assert denials.sweep(last + IDLE) == 1
    assert in_kernel(kernel) == 0
    assert list(denials.rows(last)) == before, "it is remembered as it was"
    gate.send(OUT, V4.out(TCP, tcp(1, 80, SYN)))
    assert packets(denials) == 2, "what comes later is counted anew"


def test_the_clocks_may_disagree(kernel: Map) -> None:
    write(kernel, 3, last_ns=100 * SECOND)
    assert Denials(kernel).sweep(99 * SECOND) == 0


def test_a_flood_is_swept_at_once(kernel: Map) -> None:
    denials = Denials(kernel)
    write(kernel, HALF, last_ns=SECOND, packets=3)
    assert denials.sweep(SECOND) == 0, "there is room"
    write(kernel, 1, start=HALF, last_ns=SECOND)
    assert denials.sweep(SECOND) == HALF + 1
    assert (in_kernel(kernel), packets(denials)) == (0, 3 * HALF + 1)


def test_room_for_others_amid_a_flood(gate: GateUnderTest) -> None:
    """A VM that tries every port, while the agent sweeps: nothing else goes unrecorded."""
    gate.guard(Setup().world(), PATH)
    lost = gate.gates.lost()[0]
    for port in range(1000):
        assert gate.send(OUT, V4.out(TCP, tcp(1, 6000 + port, SYN))).reason is Reason.DENIED
        if port % 300 == 299:
            gate.gates.denials.sweep(0)
    rows: list[FlowRow] = gate.denials()
    assert len({row.port for row in rows}) + gate.gates.lost()[0] - lost == 1000
    assert gate.gates.lost()[0] == lost, "there was room at any time"


def test_memories_are_bounded_and_what_goes_is_counted(kernel: Map) -> None:
    denials, swept = Denials(kernel, remember=100), 0
    for batch in range(30):
        write(kernel, 17, start=batch * 17)
        swept += denials.sweep(IDLE)
        ports = [row.port for row in denials.rows(0)]
        assert len(ports) + denials.forgotten == swept
    assert (swept, len(ports), denials.forgotten) == (510, 100, 410)
    assert min(ports) >= 400, "the oldest go first"


def test_an_observed_denial_is_one_of_its_own(gate: GateUnderTest) -> None:
    forged = V4.out(TCP, tcp(1, 443, SYN), source=STRANGER)
    for mode in (Mode.OBSERVE, Mode.ENFORCE):
        gate.guard(Setup().world(), PATH, mode=mode)
        assert gate.send(OUT, forged).reason is Reason.FOREIGN_IP
    assert sorted(row.outcome for row in gate.denials()) == [Outcome.DENIED, Outcome.OBSERVED]


def test_sweeping_while_the_gate_counts(gate: GateUnderTest) -> None:
    """A packet that has found its record when that is taken out is in no record. None is in two, all are in the meters."""
    gate.guard(Setup().world(), PATH)
    frames = [V4.out(TCP, tcp(1, port, SYN)) for port in (80, 81, 82, 83)]
    rounds, repeat = 40, 5000

    def send() -> None:
        for number in range(rounds):
            testrun.run(gate.object.programs[PROGRAM[OUT]], frames[number % len(frames)], repeat=repeat)

    sending = threading.Thread(target=send)
    sending.start()
    swept = 0
    while sending.is_alive():
        swept += gate.gates.denials.sweep(2**62)
    sending.join()
    assert swept > len(frames), "it was swept amid"
    (drops,) = [drop.packets for drop in gate.gates.drops() if drop.reason is Reason.DENIED and drop.vnic]
    assert drops == rounds * repeat
    missing = drops - packets(gate.gates.denials) - gate.gates.lost()[0]
    assert 0 <= missing <= swept, "at the most one for each time that the record was taken"
