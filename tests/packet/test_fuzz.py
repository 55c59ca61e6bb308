"""Frames that were legal once, broken at random: the gate and a slow reader of the same rules must agree on each."""

from __future__ import annotations

import functools
import ipaddress
import random
from collections.abc import Iterator

import pytest
import test_gate_dhcp
import test_gate_fragments
import test_gate_frames
import test_gate_headers
import test_gate_messages
import test_gate_neighbors
import test_gate_tcp
from cases import CLOSED, IN, LINK6, MAC, OPEN, OUT, PATH, PEER, PEER6, PEER_LINK6, VM, VM6, Case, Setup
from conftest import Stage
from frames import ARP, ICMPV6, IPV4, IPV6, QINQ, RARP, SCTP, TCP, UDP, VLAN, mac
from reference import Station

from serai.model.policy import Direction
from serai.model.reasons import Reason

ROUNDS, FRAMES = 4, 700
LONGEST = 3000  # of what TEST_RUN takes
SHORTEST = 34
INTERESTING = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01", b"\x02", bytes((TCP,)), bytes((UDP,)), bytes((ICMPV6,)), bytes((SCTP,)),
    b"\x2c", b"\x3c", b"\x2b", b"\x33", b"\x2f", b"\x04", b"\x29", b"\x86", b"\x87", b"\x88", b"\x89",
    *(number.to_bytes(2, "big") for number in (IPV4, IPV6, ARP, RARP, VLAN, QINQ, 0x2000, 0x4000, 0x2001, 0, 0xFFFF)),
    *(number.to_bytes(2, "big") for number in (67, 68, 546, 547, 53, 4789, 6081, 8, 7, 28, 40)),
    mac(MAC), bytes.fromhex("ffffffffffff"), *(ipaddress.ip_address(a).packed for a in (VM, PEER, VM6, PEER6, LINK6, "::")),
)  # fmt: skip


def corpus() -> list[tuple[Direction, bytes]]:
    """Every frame of every table."""
    tables = (
        test_gate_frames.TABLE, test_gate_neighbors.TABLE, test_gate_neighbors.HONEST, test_gate_dhcp.CLIENT,
        test_gate_dhcp.FORGED, test_gate_dhcp.SERVED, test_gate_dhcp.BY_POLICY, test_gate_headers.TABLE,
        test_gate_fragments.TABLE, test_gate_fragments.IPV6_ONLY, test_gate_tcp.TABLE, test_gate_messages.ERRORS,
        test_gate_messages.ECHOES, test_gate_messages.ASSOCIATIONS,
    )  # fmt: skip
    rows: list[Case] = [row for table in tables for row in table]
    found = {(step.direction, step.frame) for row in rows for step in row.steps if len(step.frame) <= LONGEST}
    found |= {pair for _, out, into in test_gate_headers.HIDING for pair in ((OUT, out), (IN, into))}
    return sorted(found)


FOUND = corpus()


def mutated(choice: random.Random, frame: bytes) -> bytes:
    """Break a frame in one to four places."""
    for _ in range(choice.randint(1, 4)):
        at = choice.randrange(len(frame)) if choice.random() < 0.3 else min(_somewhere(choice), len(frame) - 1)
        match choice.randrange(7):
            case 0:
                frame = frame[:at] + bytes((frame[at] ^ 1 << choice.randrange(8),)) + frame[at + 1 :]
            case 1:
                frame = frame[:at] + bytes((choice.randrange(256),)) + frame[at + 1 :]
            case 2 | 3:
                known = choice.choice(INTERESTING)
                frame = frame[:at] + known + frame[at + len(known) :]
            case 4:
                frame = frame[: max(at, SHORTEST)]
            case 5:
                other = choice.choice(FOUND)[1]
                frame = frame[:at] + other[at if choice.random() < 0.5 else 0 :]
            case 6:
                frame = frame[:at] + choice.randbytes(choice.choice((1, 2, 4, 8))) + frame[at:]
    return frame[:LONGEST].ljust(SHORTEST, b"\0")


def _somewhere(choice: random.Random) -> int:
    """Where headers are: close behind the Ethernet header, mostly."""
    return 12 + int(abs(choice.gauss(0, 1)) * 24)


def fits_in_the_kernel(frame: bytes) -> bool:
    """TEST_RUN refuses what claims to be IP and is shorter than IP's header."""
    return frame[12:14] != b"\x86\xdd" or len(frame) >= 54


def broken(seed: int) -> Iterator[tuple[Direction, bytes]]:
    choice = random.Random(seed)
    for _ in range(FRAMES):
        direction, frame = choice.choice(FOUND)
        made = mutated(choice, frame)
        if fits_in_the_kernel(made):
            yield direction if choice.random() < 0.8 else choice.choice((OUT, IN)), made


@functools.cache
def station(*, accepts: bool) -> Station:
    return Station(
        mac=mac(MAC), accepts=accepts,
        held=frozenset(ipaddress.ip_address(a).packed for a in (VM, VM6, LINK6)),
        others=frozenset(ipaddress.ip_address(a).packed for a in (PEER, PEER6, PEER_LINK6)),
    )  # fmt: skip


def check(stage: Stage, direction: Direction, frame: bytes, *, accepts: bool) -> Reason:
    gate = stage.set(Setup(policies=OPEN if accepts else CLOSED).world(), PATH)
    fate = gate.send(direction, frame)
    expected = station(accepts=accepts).decide(frame, outwards=direction is OUT)
    assert fate.reason in expected, f"{direction} {frame.hex()}: the gate says {fate.reason.name}, not {expected}"
    assert fate.passed == (fate.reason is Reason.NONE)
    return fate.reason


@pytest.mark.parametrize("accepts", [True, False], ids=["everything accepted", "nothing accepted"])
def test_whole_frames(stage: Stage, *, accepts: bool) -> None:
    """The tables' own frames, each as if nothing came before it."""
    for direction, frame in FOUND:
        if len(frame) >= SHORTEST and fits_in_the_kernel(frame):
            check(stage, direction, frame, accepts=accepts)


@pytest.mark.parametrize("accepts", [True, False], ids=["everything accepted", "nothing accepted"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_broken_frames(stage: Stage, seed: int, *, accepts: bool) -> None:
    seen = {check(stage, direction, frame, accepts=accepts) for direction, frame in broken(seed)}
    assert len(seen) >= 12, "a corpus that reaches few reasons proves little"


def test_mere_noise(stage: Stage) -> None:
    choice = random.Random(1)
    for _ in range(500):
        noise = choice.randbytes(choice.randrange(SHORTEST, 200))
        ethertype = choice.choice((IPV4, IPV6, ARP)).to_bytes(2, "big")
        first = {IPV4: b"\x45", IPV6: b"\x60", ARP: b"\0"}[int.from_bytes(ethertype, "big")]
        for direction in (OUT, IN):
            frame = mac(MAC) + mac(MAC) + ethertype + first + noise[15:].ljust(40, b"\0")
            check(stage, direction, frame, accepts=True)
