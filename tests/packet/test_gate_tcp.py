"""TCP: flags that no segment has, numbers that no connection expects, and resets that mean nothing."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from cases import (
    CLOSED,
    FAMILIES,
    IN,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER_MAC,
    V4,
    Case,
    Family,
    Setup,
    Step,
    came,
    case,
    each,
    play,
    sent,
)
from conftest import GateUnderTest, Stage
from frames import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SACK_PERMITTED,
    SYN,
    TCP,
    URG,
    piece,
    piece6,
    segment_size,
    tcp,
    window_scale,
)

from serai.model.reasons import Reason
from serai.model.tenancy import Mode

WRONG = Reason.OUT_OF_WINDOW
ILLEGAL = Reason.TCP_FLAGS


LEGAL = {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, ACK, ACK | URG, FIN | ACK, FIN | ACK | URG}
"""Beside PSH, which says nothing to anybody but the receiver; Linux's connection tracker has the same list."""


def legal(flags: int) -> bool:
    return flags & ~PSH in LEGAL


@dataclasses.dataclass(frozen=True)
class Talk:
    """One connection: the VM's numbers start at 1000, the peer's at 5000."""

    family: Family
    ours: int = 1000
    theirs: int = 443
    options: bytes = b""

    def we(self, flags: int, seq: int, ack: int = 0, size: int = 0, reason: Reason = Reason.NONE, **more: Any) -> Step:
        return sent(
            self.family.out(TCP, tcp(self.ours, self.theirs, flags, bytes(size), seq=seq, ack=ack, **more)), reason
        )

    def they(
        self, flags: int, seq: int, ack: int = 0, size: int = 0, reason: Reason = Reason.NONE, **more: Any
    ) -> Step:
        return came(
            self.family.into(TCP, tcp(self.theirs, self.ours, flags, bytes(size), seq=seq, ack=ack, **more)), reason
        )

    @property
    def syn(self) -> Step:
        return self.we(SYN, 1000, window=1000, options=self.options)

    @property
    def opened(self) -> tuple[Step, ...]:
        """The handshake: from here on we are at 1001 and they are at 5001."""
        return (
            self.syn,
            self.they(SYN | ACK, 5000, 1001, window=1000, options=self.options),
            self.we(ACK, 1001, 5001, window=1000),
        )

    @property
    def lives(self) -> tuple[Step, ...]:
        """Passes while nothing has ended the connection, and tells nobody anything new."""
        return self.we(ACK, 1001, 5001, window=1000), self.they(ACK, 5001, 1001, window=1000)

    @property
    def is_open(self) -> tuple[Step, ...]:
        """Its sender may have forgotten the connection, and then a SYN finds out (RFC 9293, 3.5.1): it begins none."""
        return (
            self.we(SYN, 900_000, window=1000),
            self.they(SYN | ACK, 70_000, 900_001, window=1000, reason=WRONG),
            *self.lives,
        )

    @property
    def is_over(self) -> tuple[Step, ...]:
        return self.we(SYN, 900_000, window=1000), self.they(SYN | ACK, 70_000, 900_001)


def of_nothing(family: Family) -> list[Case]:
    """What opens no connection (the policy accepts everything)."""
    talk = Talk(family)
    return [
        *(
            row
            for name, flags in {"ACK": ACK, "SYN ACK": SYN | ACK, "FIN ACK": FIN | ACK, "RST": RST, "RST ACK": RST | ACK,
                                "PSH ACK": PSH | ACK, "URG ACK": URG | ACK}.items()
            for row in (
                case(f"{name} without a connection", talk.we(flags, 1, 1, reason=Reason.NO_FLOW), policies=OPEN),
                case(f"{name} without a connection, to the VM", talk.they(flags, 1, 1, reason=Reason.NO_FLOW), policies=OPEN),
            )
        ),
        case("SYN with ECN", talk.we(SYN | ECE | CWR, 1), flows=1, policies=OPEN),
        case("SYN with data (RFC 7413)", talk.we(SYN, 1, size=100), flows=1, policies=OPEN),
        case("SYN with reserved bits", sent(family.out(TCP, _reserved(tcp(1, 443, SYN)))), flows=1, policies=OPEN),
    ]  # fmt: skip


def _reserved(segment: bytes) -> bytes:
    return segment[:12] + bytes((segment[12] | 0x0E,)) + segment[13:]


def of_handshakes(family: Family) -> list[Case]:
    talk = Talk(family)
    return [
        case("in three steps", *talk.opened, *talk.lives, flows=1),
        case("the SYN again", talk.syn, talk.syn, talk.they(SYN | ACK, 5000, 1001), flows=1),
        case("the SYN ACK again", *talk.opened[:2], talk.opened[1], talk.opened[2], flows=1),
        case("the SYN again when it is open", *talk.opened, talk.syn, *talk.lives, flows=1),
        case("another SYN when it is open", *talk.opened, *talk.is_open, flows=1),
        case("half-open: a SYN, what the other side thinks of it, a RST, and once more", *talk.opened,
             talk.we(SYN, 900_000), talk.they(ACK, 5001, 1001), talk.we(RST, 1001), *talk.is_over, flows=1),
        case("the SYN ACK again when it is open", *talk.opened, talk.opened[1], *talk.lives, flows=1),
        case("a SYN ACK that acknowledges something else", talk.syn,
             talk.they(SYN | ACK, 5000, 77_777, reason=WRONG), talk.they(SYN | ACK, 5000, 1001), flows=1),
        case("split: an ACK, then a SYN against it (denied)", talk.syn,
             talk.they(SYN, 5000, reason=Reason.DENIED), talk.they(SYN | ACK, 5000, 1001), flows=1),
        case("a SYN against an open connection (denied)", *talk.opened,
             talk.they(SYN, 5000, reason=Reason.DENIED), *talk.lives, flows=1),
        case("Fast Open: data in the SYN, acknowledged", talk.we(SYN, 1000, size=100),
             talk.they(SYN | ACK, 5000, 1101), talk.we(ACK, 1101, 5001), flows=1),
        case("Fast Open: the SYN again, without its data", talk.we(SYN, 1000, size=100), talk.we(SYN, 1000),
             talk.they(SYN | ACK, 5000, 1101), talk.we(ACK, 1101, 5001), flows=1),
        case("Fast Open refused: the data again", talk.we(SYN, 1000, size=100),
             talk.they(SYN | ACK, 5000, 1001), talk.we(ACK | PSH, 1001, 5001, size=100), flows=1),
    ]  # fmt: skip


def of_windows(family: Family) -> list[Case]:
    """The windows are 1000 bytes, not scaled, or scaled by 7 to 128000."""
    talk = Talk(family)
    wide = dataclasses.replace(talk, options=segment_size(1460) + SACK_PERMITTED + window_scale(7))
    widest = dataclasses.replace(talk, options=window_scale(14))
    half = (wide.syn, talk.they(SYN | ACK, 5000, 1001, window=1000), talk.opened[2])
    return [
        case("data in the window", *talk.opened, talk.we(ACK, 1001, 5001, 500), talk.they(ACK, 5001, 1501, 500), flows=1),
        case("up to the window's end", *talk.opened, talk.we(ACK, 1001, 5001, 1000), flows=1),
        case("far beyond, in a fragment", *talk.opened, torn(talk, 1_005_001), talk.they(RST, 2_000_000, reason=WRONG),
             *talk.is_open, flows=1),
        case("far beyond the window", *talk.opened, talk.we(ACK, 1_001_001, 5001, 100, WRONG), *talk.lives, flows=1),
        case("far beyond the window, to the VM", *talk.opened, talk.they(ACK, 1_005_001, 1001, 100, WRONG), *talk.lives, flows=1),
        case("half the numbers away", *talk.opened, talk.we(ACK, 1001 + (1 << 31), 5001, 1, WRONG), *talk.lives, flows=1),
        case("long ago", *talk.opened, talk.they(ACK, 5001 - 1_000_000, 1001, 100, WRONG), *talk.lives, flows=1),
        case("an ACK of what was never sent", *talk.opened, talk.they(ACK, 5001, 9001, reason=WRONG), *talk.lives, flows=1),
        case("an ACK of long ago", *talk.opened, talk.they(ACK, 5001, 1001 - 1_000_000, reason=WRONG), *talk.lives, flows=1),
        case("an ACK of what was never sent, from the VM", *talk.opened, talk.we(ACK, 1001, 9001, reason=WRONG), *talk.lives, flows=1),
        case("far, but the window is scaled", *wide.opened, *wide.lives, wide.we(ACK, 1001 + 120_000, 5001, 1000), flows=1),
        case("farther than the scaled window", *wide.opened, wide.we(ACK, 1_001_001, 5001, 100, WRONG), *wide.lives, flows=1),
        case("the widest window there is: 1 GB",
             widest.we(SYN, 1000, window=65535, options=widest.options),
             widest.they(SYN | ACK, 5000, 1001, window=65535, options=widest.options),
             widest.we(ACK, 1001, 5001, window=65535), widest.they(ACK, 5001, 1001, window=65535),
             widest.we(ACK, 1001 + 1_000_000, 5001, 100), widest.we(ACK, 1001, 5001, 1000),
             widest.they(ACK, 5001 + 1_000_000, 1001 + 1_000_100, 100), widest.they(ACK, 5001, 1001, 100),
             widest.we(ACK, 1001 + (1 << 31), 5001, 1, WRONG), widest.they(ACK, 5001 - (1 << 31), 1001, 1, WRONG), flows=1),
        case("scaled by one side only: not scaled", *half, talk.we(ACK, 1001 + 120_000, 5001, 1000, WRONG), *talk.lives, flows=1),
        case("again what is acknowledged", *talk.opened, talk.we(ACK, 1001, 5001, 500), talk.they(ACK, 5001, 1501),
             talk.we(ACK, 1001, 5001, 500), flows=1),
        case("keepalive", *talk.opened, talk.we(ACK, 1000, 5001), talk.they(ACK, 5001, 1001), flows=1),
        case("keepalive with a byte", *talk.opened, talk.we(ACK, 1000, 5001, 1), talk.they(ACK, 5001, 1001), flows=1),
        case("into a window of 0", *talk.opened, talk.they(ACK, 5001, 1001, window=0), talk.we(ACK, 1001, 5001, 1),
             talk.they(ACK, 5001, 1001, window=1000), talk.we(ACK, 1001, 5001, 1000), flows=1),
        case("the numbers begin anew", talk.we(SYN, 0xFFFFFFFE, window=1000), talk.they(SYN | ACK, 0xFFFFFFFF, 0xFFFFFFFF, window=1000),
             talk.we(ACK, 0xFFFFFFFF, 0, 800, window=1000), talk.they(ACK, 0, 799, 800), talk.we(ACK, 799, 800, 800), flows=1),
    ]  # fmt: skip


def torn(talk: Talk, seq: int) -> Step:
    """A first fragment of the peer's: how far the segment goes is unknown, where it begins is not."""
    segment = tcp(talk.theirs, talk.ours, ACK, bytes(28), seq=seq, ack=1001)
    whole = talk.family.packet(talk.family.peer, talk.family.vm, TCP, segment)
    first = piece(whole, 0, 32) if talk.family is V4 else piece6(whole, 0, 32)
    return came(talk.family.frame(first, source=PEER_MAC, target=MAC), WRONG)


def of_ends(family: Family) -> list[Case]:
    talk = Talk(family)
    closing = (talk.we(FIN | ACK, 1001, 5001), talk.they(FIN | ACK, 5001, 1002), talk.we(ACK, 1002, 5002))
    return [
        case("exact RST of the peer", *talk.opened, talk.they(RST, 5001), *talk.is_over, flows=1),
        case("exact RST ACK of the peer", *talk.opened, talk.they(RST | ACK, 5001, 1001), *talk.is_over, flows=1),
        case("exact RST of the VM", *talk.opened, talk.we(RST, 1001), *talk.is_over, flows=1),
        case("RST in the window but not exact", *talk.opened, talk.they(RST, 5101), *talk.is_open, flows=1),
        case("RST in the window of the VM, but not exact", *talk.opened, talk.we(RST, 1101), *talk.is_open, flows=1),
        case("RST far beyond", *talk.opened, talk.they(RST, 1_005_001, reason=WRONG), *talk.is_open, flows=1),
        case("RST of long ago", *talk.opened, talk.they(RST, 5001 - 1_000_000, reason=WRONG), *talk.is_open, flows=1),
        case("RST ACK far beyond", *talk.opened, talk.they(RST | ACK, 1_005_001, 1001, reason=WRONG), *talk.is_open, flows=1),
        case("RST of the VM far beyond", *talk.opened, talk.we(RST, 1_001_001, reason=WRONG), *talk.is_open, flows=1),
        case("a SYN is refused", talk.syn, talk.they(RST | ACK, 0, 1001), *talk.is_over, flows=1),
        case("a RST that acknowledges no SYN", talk.syn, talk.they(RST | ACK, 0, 77_777, reason=WRONG),
             *talk.opened[1:], *talk.lives, flows=1),
        case("a RST that acknowledges nothing", talk.syn, talk.they(RST, 0, reason=WRONG), *talk.opened[1:], *talk.lives, flows=1),
        case("a RST of the VM that is not about its SYN", talk.syn, talk.we(RST, 500_000, reason=WRONG),
             *talk.opened[1:], *talk.lives, flows=1),
        case("the VM gives up before it is answered", talk.syn, talk.we(RST, 1001), flows=1),
        case("both close", *talk.opened, *closing, flows=1),
        case("both close, each FIN twice", *talk.opened, closing[0], closing[0], closing[1], closing[1], closing[2], closing[2], flows=1),
        case("both close at a time", *talk.opened, talk.we(FIN | ACK, 1001, 5001), talk.they(FIN | ACK, 5001, 1001),
             talk.we(ACK, 1002, 5002), talk.they(ACK, 5002, 1002), flows=1),
        case("a late copy of the SYN while both close", *talk.opened, *closing[:2], talk.syn,
             closing[1], closing[2], closing[0], flows=1),
        case("the same ports after both closed", *talk.opened, *closing, *talk.is_over, flows=1),
        case("one side goes on", *talk.opened, talk.we(FIN | ACK, 1001, 5001), talk.they(ACK, 5001, 1002, 500),
             talk.we(ACK, 1002, 5501), talk.they(FIN | ACK, 5501, 1002), talk.we(ACK, 1002, 5502), flows=1),
        case("a FIN far beyond", *talk.opened, talk.they(FIN | ACK, 1_005_001, 1001, reason=WRONG), *talk.is_open, flows=1),
        case("one side closed: no new connection yet", *talk.opened, talk.we(FIN | ACK, 1001, 5001), *talk.is_open, flows=1),
    ]  # fmt: skip


TABLE = [
    row for f in FAMILIES for of in (of_nothing, of_handshakes, of_windows, of_ends) for row in each(f, *of(f))
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_segments(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("flags", range(64))
def test_every_combination_of_flags(stage: Stage, flags: int) -> None:
    """Neither a rule nor a connection makes a segment of what is none."""
    names = "+".join(
        n
        for n, bit in zip(("FIN", "SYN", "RST", "PSH", "ACK", "URG"), (1 << b for b in range(6)), strict=True)
        if flags & bit
    )
    for family, policies in itertools.product(FAMILIES, (OPEN, CLOSED)):
        gate = stage.set(Setup(policies=policies).world(), PATH)
        for direction, frame in ((OUT, family.out), (IN, family.into)):
            fate = gate.send(direction, frame(TCP, tcp(1000, 443, flags)))
            assert (fate.reason is ILLEGAL) == (not legal(flags)), names or "none"
            if flags & (SYN | ACK) == SYN and legal(flags):
                assert fate.reason is (Reason.NONE if policies is OPEN else Reason.DENIED)
    talk = Talk(V4)
    gate = stage.set(Setup().world(), PATH)
    _play_all(gate, *talk.opened)
    for step in (talk.we(flags, 1001, 5001), talk.they(flags, 5001, 1001)):
        assert (gate.send(step.direction, step.frame).reason is ILLEGAL) == (not legal(flags)), names or "none"


def _play_all(gate: GateUnderTest, *steps: Step) -> None:
    for step in steps:
        assert gate.send(step.direction, step.frame).reason is step.reason


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_split_handshake(stage: Stage, family: Family) -> None:
    """Where policy lets the peer in, both may open at a time (RFC 9293, 3.5)."""
    talk = Talk(family)
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    _play_all(
        gate, talk.syn, talk.they(SYN, 5000, window=1000),
        talk.we(SYN | ACK, 1000, 5001, window=1000), talk.they(SYN | ACK, 5000, 1001, window=1000),
        talk.we(ACK, 1001, 5001, 100), talk.they(ACK, 5001, 1101, 100),
    )  # fmt: skip
    assert gate.flows.count() == 1


def test_what_was_out_of_the_window_counts_nowhere(stage: Stage) -> None:
    talk = Talk(V4)
    gate = stage.set(Setup().world(), PATH)
    _play_all(gate, *talk.opened)
    before = gate.rows()
    _play_all(gate, talk.they(ACK, 1_005_001, 1001, 100, WRONG), talk.they(RST, 1_005_001, reason=WRONG))
    _play_all(gate, talk.we(ACK, 1001, 9001, reason=WRONG))
    assert [dataclasses.replace(row, age_seconds=0) for row in gate.rows()] == [
        dataclasses.replace(row, age_seconds=0) for row in before
    ]
    assert sum(denial.packets_in + denial.packets_out for denial in gate.denials()) == 3


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_connection_whose_beginning_nobody_saw(stage: Stage, family: Family) -> None:
    """Observing began amid it; it goes on, wherever its numbers are, and lives on when enforcement begins."""
    talk = Talk(family)
    gate = stage.set(Setup(policies=OPEN, mode=Mode.OBSERVE).world(), PATH)
    for mode in (Mode.OBSERVE, Mode.ENFORCE):
        gate.guard(Setup(policies=OPEN, mode=mode).world(), PATH)
        for ours, theirs in ((1001, 5001), (1501, 5501), (101_001, 205_001), (100_501, 204_501)):
            _play_all(
                gate, talk.we(ACK, ours, theirs, 500), talk.they(ACK, theirs, ours + 500, 500),
                talk.we(ACK, ours + 500, theirs + 500), talk.they(ACK, theirs + 500, ours + 500),
            )  # fmt: skip
        _play_all(gate, talk.they(ACK, 1001 + (1 << 31), 101_001, 100, WRONG))
        if mode is Mode.OBSERVE:
            _play_all(gate, talk.they(ACK, 205_501, 101_501, 100))
    assert gate.flows.count() == 1


def test_many_resets_by_guess(stage: Stage) -> None:
    """A blind attacker tries every 64 KB of the sequence space (RFC 5961, 1.2); the connection lives."""
    talk = Talk(V4)
    gate = stage.set(Setup().world(), PATH)
    _play_all(gate, *talk.opened)
    passed = 0
    for guess in range(0, 1 << 32, 1 << 20):
        step = talk.they(RST, guess + 77)
        passed += gate.send(step.direction, step.frame).passed
    assert passed <= 1
    _play_all(gate, *talk.is_open)
