"""How a TCP connection began: how long the answer took, SYNs that came again, and resets in answer."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cases import FAMILIES, OPEN, PATH, V4, Family, Setup, Step, came, sent
from conftest import GateUnderTest, Stage
from frames import ACK, RST, SCTP, SYN, sctp, sctp_init, sctp_init_ack
from test_gate_tcp import Talk

from serai.datapath.layout import HANDSHAKE_REFUSED, HANDSHAKE_TIMED
from serai.model.tenancy import Mode

each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
UNKNOWN = (0, 0, 0)


def flow(gate: GateUnderTest) -> np.void:
    """The only one of the VM."""
    (vm,) = (vm for path, vm in gate.world.vms.items() if str(path) == PATH)
    table = gate.flows.table(vm.vnics[0].id)
    assert table is not None
    (value,) = table.dump()[1]
    return value


def facts(gate: GateUnderTest) -> tuple[int, int, int]:
    found = flow(gate)
    return int(found["rtt_us"]), int(found["syn_repeats"]), int(found["handshake"])


def play(gate: GateUnderTest, *steps: Step) -> None:
    for step in steps:
        assert gate.send(step.direction, step.frame).reason is step.reason


@pytest.fixture
def gate_open(stage: Stage) -> GateUnderTest:
    return stage.set(Setup(policies=OPEN).world(), PATH)


@each_family
def test_an_answer_is_timed_to_the_microsecond(gate_open: GateUnderTest, family: Family) -> None:
    syn, answer, rest = Talk(family).opened
    began = time.monotonic_ns()
    play(gate_open, syn)
    sent = time.monotonic_ns()
    assert facts(gate_open) == (0, 0, HANDSHAKE_TIMED)
    assert began <= int(flow(gate_open)["first_ns"]) <= sent, "to the nanosecond"
    time.sleep(0.02)
    asked = time.monotonic_ns()
    play(gate_open, answer)
    assert asked - sent - 1000 <= flow(gate_open)["rtt_us"] * 1000 <= time.monotonic_ns() - began
    before = facts(gate_open)
    assert before[1:] == (0, 0)
    time.sleep(0.002)
    play(gate_open, answer, rest, *Talk(family).lives)
    assert facts(gate_open) == before, "the first answer counts"


@each_family
def test_connections_to_the_vm_are_timed_too(gate_open: GateUnderTest, family: Family) -> None:
    talk = Talk(family, ours=22, theirs=999)
    play(gate_open, talk.they(SYN, 1000), talk.we(SYN | ACK, 5000, 1001), talk.they(ACK, 1001, 5001))
    rtt, repeats, handshake = facts(gate_open)
    assert 0 < rtt < 1_000_000
    assert (repeats, handshake) == (0, 0)


@each_family
def test_of_two_syns_nobody_knows_which_is_answered(gate_open: GateUnderTest, family: Family) -> None:
    talk = Talk(family)
    play(gate_open, talk.syn, talk.syn)
    assert facts(gate_open) == (0, 1, 0)
    play(gate_open, talk.we(SYN, 2000, window=1000), talk.syn)  # with another number, too
    assert facts(gate_open) == (0, 3, 0)
    play(gate_open, *talk.opened[1:])
    assert facts(gate_open) == (0, 3, 0)
    play(gate_open, talk.syn, *talk.lives)
    assert facts(gate_open) == (0, 3, 0), "behind the answer it is no repeat that anybody waited for"


def test_repeats_stop_where_they_fit_no_more(gate_open: GateUnderTest) -> None:
    talk = Talk(V4)
    play(gate_open, talk.syn)
    (vm,) = (vm for path, vm in gate_open.world.vms.items() if str(path) == PATH)
    table = gate_open.flows.table(vm.vnics[0].id)
    assert table is not None
    keys, values = table.dump()
    values["syn_repeats"] = 0xFFFE
    table.update(keys, values)
    for expected in (0xFFFF, 0xFFFF):
        play(gate_open, talk.syn)
        assert facts(gate_open)[1] == expected


@each_family
def test_a_reset_in_answer_refuses(gate_open: GateUnderTest, family: Family) -> None:
    talk = Talk(family)
    play(gate_open, talk.syn, talk.they(RST | ACK, 0, 1001))
    rtt, repeats, handshake = facts(gate_open)
    assert (rtt, repeats) == (0, 0)
    assert handshake & HANDSHAKE_REFUSED
    play(gate_open, talk.syn)
    assert facts(gate_open) == (0, 0, HANDSHAKE_TIMED), "a new connection begins anew"


@each_family
def test_later_resets_refuse_nothing(gate_open: GateUnderTest, family: Family) -> None:
    talk = Talk(family)
    play(gate_open, *talk.opened, talk.they(RST, 5001))
    rtt, repeats, handshake = facts(gate_open)
    assert rtt > 0
    assert (repeats, handshake) == (0, 0)


def test_a_sender_that_takes_its_syn_back_was_not_refused(gate_open: GateUnderTest) -> None:
    talk = Talk(V4)
    play(gate_open, talk.syn, talk.we(RST, 1001))
    assert not facts(gate_open)[2] & HANDSHAKE_REFUSED


def test_an_answer_that_is_none_tells_nothing(gate_open: GateUnderTest) -> None:
    """To the other end the connection is an old one: it says where that stood."""
    talk = Talk(V4)
    play(gate_open, talk.syn, talk.they(ACK, 70_000, 60_000))
    assert facts(gate_open) == (0, 0, HANDSHAKE_TIMED)
    play(gate_open, talk.we(RST, 60_000))
    assert not facts(gate_open)[2] & HANDSHAKE_REFUSED


def test_both_may_begin_at_once(gate_open: GateUnderTest) -> None:
    talk = Talk(V4)
    play(gate_open, talk.syn, talk.they(SYN, 5000), talk.we(SYN | ACK, 1000, 5001), talk.they(SYN | ACK, 5000, 1001))
    assert facts(gate_open)[:2] == (0, 0)


def test_a_connection_whose_beginning_nobody_saw_is_not_timed(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN, mode=Mode.OBSERVE).world(), PATH)
    talk = Talk(V4)
    play(gate, talk.they(SYN | ACK, 5000, 1001), talk.we(ACK, 1001, 5001))
    assert facts(gate) == UNKNOWN


def test_other_protocols_have_no_handshake(gate_open: GateUnderTest) -> None:
    init, answer = sctp(1000, 5000, 0, sctp_init(7)), sctp(5000, 1000, 7, sctp_init_ack(8))
    play(gate_open, sent(V4.out(SCTP, init)), sent(V4.out(SCTP, init)), came(V4.into(SCTP, answer)))
    assert facts(gate_open) == UNKNOWN


def test_both_times_of_a_new_flow_are_of_one_clock(gate_open: GateUnderTest) -> None:
    play(gate_open, Talk(V4).syn)
    found = flow(gate_open)
    apart = int(found["first_ns"]) - int(found["last_ns"])
    assert abs(apart) < 50_000_000, "a few ticks at the most"
