"""Two legal TCP endpoints and a network that loses, repeats and reorders: the gate lets every packet pass."""

from __future__ import annotations

import collections
import dataclasses
import random

import pytest
from cases import FAMILIES, IN, MAC, OPEN, OUT, PATH, PEER_MAC, Family, Setup
from conftest import GateUnderTest, Stage
from frames import ACK, FIN, PSH, RST, SACK_PERMITTED, SYN, TCP, sack, segment_size, tcp, window_scale
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VM_PORT, PEER_PORT = 40000, 443
LARGEST, SEGMENT = 2900, 1448  # of what TEST_RUN takes, and of what goes over a wire
ACK_LAG = 65535
"""How far an acknowledgement may lag at the least, whatever windows are."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """What an endpoint sends; numbers count from its initial one, acknowledgements from the other's."""

    flags: int
    seq: int
    size: int
    ack: int
    window: int
    options: bytes = b""

    @property
    def end(self) -> int:
        return self.seq + self.size + bool(self.flags & SYN) + bool(self.flags & FIN)


class Endpoint:
    """RFC 9293 and RFC 7323, as far as others can see. Byte 0 is the SYN, 1 to ``total`` are data, then comes the FIN."""

    def __init__(self, choice: random.Random, *, first: int, total: int, buffer: int, scale: int | None) -> None:
        self.choice, self.first, self.total, self.buffer, self.offer = choice, first, total, buffer, scale
        self.shift = self.other_shift = 0
        self.acknowledged = self.sent = 0
        self.edge = 0
        """Up to where the other side lets it send."""
        self.got = self.read = 0
        self.pieces: list[tuple[int, int]] = []
        """What came out of order."""
        self.fin_at: int | None = None
        """Where the other side's FIN stands, once it is known."""
        self.widest = 1
        self.established = self.wants_sack = False

    @property
    def ends(self) -> int:
        """Behind the last number that it will ever use."""
        return self.total + 2

    @property
    def done(self) -> bool:
        return self.acknowledged == self.ends and self.fin_at is not None and self.got > self.fin_at

    def make(self, flags: int, seq: int, size: int = 0) -> Segment:
        free = max(self.buffer - (self.got - self.read), 0)
        shift = 0 if flags & SYN else self.shift
        window = min(free >> shift, 0xFFFF)
        self.widest = max(self.widest, window << shift)
        options = b""
        if flags & SYN:
            options = segment_size(SEGMENT) + SACK_PERMITTED
            options += window_scale(self.offer) if self.offer is not None else b""
        elif self.wants_sack and self.pieces:
            options = sack(*[(first + self.other_first, last + self.other_first) for first, last in self.pieces[-3:]])
        return Segment(flags, seq, size, self.got, window, options)

    other_first = 0

    def data(self, seq: int, last: int) -> Segment:
        """All from ``seq`` up to ``last``, with SYN and FIN where they belong."""
        if seq == 0:
            return self.make(SYN | ACK if self.got else SYN, 0)
        fin = FIN if last == self.ends else 0
        return self.make(ACK | fin | (PSH if self.choice.random() < 0.5 else 0), seq, last - seq - bool(fin))

    def speak(self) -> Segment | None:
        """Say something that it may say now, or nothing."""
        if not self.established:
            return self.data(0, 1) if self.sent else None
        return self.choice.choice((
            self.something_new, self.something_new, self.something_new, self.something_old, self.nothing_new,
            self.still_there, self.knock, self.read_some,
        ))()  # fmt: skip

    def something_new(self) -> Segment | None:
        room = min(self.edge, self.ends) - self.sent
        if room <= 0:
            return None
        last = self.sent + min(room, self.choice.choice((1, 10, SEGMENT, LARGEST)))
        segment = self.data(self.sent, last)
        self.sent = last
        return segment

    def something_old(self) -> Segment | None:
        if self.acknowledged == self.sent:
            return None
        seq = self.choice.randint(self.acknowledged, self.sent - 1)
        return self.data(seq, min(self.sent, seq + self.choice.randint(1, LARGEST)))

    def nothing_new(self) -> Segment:
        return self.make(ACK, self.sent)

    def still_there(self) -> Segment | None:
        """Keepalive: one number back, with or without a byte of garbage (RFC 9293, 3.8.4)."""
        idle = self.acknowledged == self.sent and 1 < self.sent < self.ends
        return self.make(ACK, self.sent - 1, self.choice.randint(0, 1)) if idle else None

    def knock(self) -> Segment | None:
        """Probe a window of 0 with a byte that has no room (RFC 9293, 3.8.6.1), or as Linux does with none."""
        if self.sent < self.edge or self.sent > self.total or self.acknowledged < self.sent:
            return None
        if self.choice.random() < 0.5:
            return self.make(ACK, self.sent - 1)
        segment = self.make(ACK, self.sent, 1)
        self.sent += 1
        self.edge = max(self.edge, self.sent)
        return segment

    def read_some(self) -> Segment | None:
        self.read += self.choice.randint(0, self.got - self.read)
        return self.nothing_new()

    def hear(self, segment: Segment) -> Segment | None:
        """Take a segment that has arrived, and perhaps answer at once."""
        if segment.flags & SYN:
            return self.greet(segment)
        if not self.established and not self.sent:
            return None
        if segment.flags & ACK and segment.ack <= self.sent:
            self.established = self.established or segment.ack > 0
            self.acknowledged = max(self.acknowledged, segment.ack)
            self.edge = max(self.edge, segment.ack + (segment.window << self.other_shift))
        if segment.end > self.got:
            self.take(segment)
        return self.nothing_new() if segment.size and self.choice.random() < 0.7 else None

    def greet(self, segment: Segment) -> Segment | None:
        if not self.got:
            self.got = self.read = 1
            self.pieces = []
            other_offer = _scale_of(segment)
            if other_offer is not None and self.offer is not None:
                self.shift, self.other_shift = self.offer, other_offer
            self.wants_sack = True
        if segment.flags & ACK:
            self.established = True
            self.acknowledged = max(self.acknowledged, 1)
        self.edge = max(self.edge, (segment.ack if segment.flags & ACK else 1) + segment.window)
        if self.established:
            return self.nothing_new()
        self.sent = 1
        return self.data(0, 1)

    def take(self, segment: Segment) -> None:
        last = segment.end
        if segment.flags & FIN:
            self.fin_at = last - 1
        room = self.read + self.buffer + 1
        if last > room and not segment.flags & FIN:
            last = room  # a probe, or what had room when it was sent
        self.pieces.append((segment.seq, last))
        self.pieces.sort()
        while self.pieces and self.pieces[0][0] <= self.got:
            self.got = max(self.got, self.pieces.pop(0)[1])
        self.pieces = [p for p in self.pieces if p[1] > self.got]
        if self.fin_at is not None:
            self.got = min(self.got, self.fin_at + 1)


def _scale_of(segment: Segment) -> int | None:
    at = segment.options.find(b"\1\3\3")
    return segment.options[at + 3] if at >= 0 else None


class Wire:
    """The gate beside the VM, and a network between it and the peer."""

    def __init__(
        self, gate: GateUnderTest, family: Family, vm: Endpoint, peer: Endpoint, choice: random.Random
    ) -> None:
        self.gate, self.family, self.vm, self.peer, self.choice = gate, family, vm, peer, choice
        vm.other_first, peer.other_first = peer.first, vm.first
        self.outwards: list[Segment] = []
        self.inwards: list[Segment] = []
        self.log: collections.deque[str] = collections.deque(maxlen=12)
        self.passed = self.seen = 0

    def send(self, end: Endpoint, segment: Segment | None) -> None:
        if segment is None:
            return
        if end is self.vm:
            self.check(segment, outwards=True)
            self.outwards.append(segment)
        else:
            self.inwards.append(segment)

    def check(self, segment: Segment, *, outwards: bool) -> None:
        sender, other = (self.vm, self.peer) if outwards else (self.peer, self.vm)
        ports = (VM_PORT, PEER_PORT) if outwards else (PEER_PORT, VM_PORT)
        raw = tcp(
            *ports, segment.flags, bytes(segment.size), seq=sender.first + segment.seq,
            ack=other.first + segment.ack if segment.flags & ACK else 0, window=segment.window, options=segment.options,
        )  # fmt: skip
        frame = self.family.out(TCP, raw) if outwards else self.family.into(TCP, raw)
        assert {frame[:6], frame[6:12]} == {bytes.fromhex(m.replace(":", "")) for m in (MAC, PEER_MAC)}
        segments = -(-segment.size // SEGMENT) if segment.size > SEGMENT else 0
        self.log.append(f"{'>' if outwards else '<'} {segment}")
        fate = self.gate.send(OUT if outwards else IN, frame, gso_segs=segments)
        assert fate.passed, f"{fate.reason.name}: {sender.__dict__}\n" + "\n".join(self.log)
        self.passed += 1

    def deliver(self) -> None:
        """Let something happen to something that is on its way."""
        outwards = self.choice.random() < 0.5
        queue = self.outwards if outwards else self.inwards
        if not queue:
            return
        segment = queue[0 if self.choice.random() < 0.7 else self.choice.randrange(min(len(queue), 6))]
        happens = self.choice.random()
        if happens > 0.05:  # else it comes twice
            queue.remove(segment)
        if happens > 0.93:
            return  # lost
        if not outwards:
            if self.is_ancient(segment):
                return
            self.check(segment, outwards=False)
            self.seen = max(self.seen, segment.end)
        end = self.peer if outwards else self.vm
        self.send(end, end.hear(segment))

    def is_ancient(self, segment: Segment) -> bool:
        """Older than a window: it says nothing to its receiver any more, and the network forgets it."""
        if segment.flags & SYN and self.vm.fin_at is not None:
            return True
        return segment.end < self.seen - self.vm.widest or (
            bool(segment.flags & ACK) and segment.ack < self.vm.sent - max(self.peer.widest, ACK_LAG)
        )


@st.composite
def endpoints(draw: st.DrawFn, choice: random.Random) -> Endpoint:
    return Endpoint(
        choice,
        first=draw(
            st.sampled_from((0, 1, 0x7FFFFF00, 0xFFFFFFFF, 0xFFFFFF00, 0xFFFF0000)) | st.integers(0, 0xFFFFFFFF)
        ),
        total=draw(st.sampled_from((0, 1, 5000, 100_000))),
        buffer=draw(st.sampled_from((1, 100, 2000, 65535, 300_000, 1 << 24))),
        scale=draw(st.sampled_from((None, 0, 2, 7, 14))),
    )


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 1 << 32), by_vm=st.booleans(), abort=st.booleans())
def test_every_packet_of_a_legal_connection_passes(
    stage: Stage, family: Family, data: st.DataObject, seed: int, *, by_vm: bool, abort: bool
) -> None:
    choice = random.Random(seed)
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    vm, peer = data.draw(endpoints(choice)), data.draw(endpoints(choice))
    wire = Wire(gate, family, vm, peer, choice)
    opener = vm if by_vm else peer
    opener.sent = 1
    wire.send(opener, opener.data(0, 1))
    for _ in range(400):
        if vm.done and peer.done:
            break
        if choice.random() < 0.55:
            wire.deliver()
        else:
            end = choice.choice((vm, peer))
            wire.send(end, end.speak())
    if abort and vm.established and vm.acknowledged == vm.sent:
        wire.check(vm.make(RST, vm.sent), outwards=True)
    assert wire.passed
    assert gate.flows.count() <= 1


def test_the_simulation_is_one(stage: Stage) -> None:
    """On a kind network connections open, carry all there is, and end: what passes above is worth something."""
    finished = 0
    for seed in range(12):
        choice = random.Random(seed)
        gate = stage.set(Setup(policies=OPEN).world(), PATH)
        vm, peer = (Endpoint(choice, first=0xFFFFFFF0, total=4000, buffer=5000, scale=seed % 8) for _ in range(2))
        wire = Wire(gate, FAMILIES[seed % 2], vm, peer, choice)
        vm.sent = 1
        wire.send(vm, vm.data(0, 1))
        for _ in range(1500):
            wire.deliver() if choice.random() < 0.6 else wire.send(vm if choice.random() < 0.5 else peer, None)
            end = choice.choice((vm, peer))
            if choice.random() < 0.4:
                wire.send(end, end.speak())
            if vm.done and peer.done:
                finished += 1
                break
    assert finished >= 8
