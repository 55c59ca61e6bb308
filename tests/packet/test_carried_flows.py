"""Flows that go along with their VM, in the kernel: which of them the destination takes, and what its gate makes of them.

Both hosts' gates are real; what lies between them is what an agent writes and reads (``agent/moving/gates.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest
from conftest import NETWORK, SIZES, Fate, GateUnderTest, machine
from frames import ACK, FIN, ICMP, IPV4, RST, SYN, TCP, UDP, ethernet, icmp, ipv4, tcp, udp

from serai.agent.moving import gates as moving
from serai.agent.moving.gates import ComingFlows, LeavingFlows
from serai.agent.moving.port import Took
from serai.agent.refused import RefusedError
from serai.datapath import testrun
from serai.datapath.handoff import Handoff
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.object import GateObject
from serai.datapath.passed import Passed
from serai.model.inventory import VirtualMachine, VnicId
from serai.model.policy import Action, Clause, Direction, Group, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.ruleset import HostRuleset
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

OUT, IN = Direction.EGRESS, Direction.INGRESS
VM, PEER, MAC, PEER_MAC = "10.0.0.1", "10.0.0.2", "52:54:00:00:00:01", "52:54:00:00:00:02"
SCOPE, PATH = Scope("/acme/shop"), "/acme/shop:vm"
SECOND = 1_000_000_000


def policy(protocol: int, port: int, direction: Direction) -> Policy:
    name = f"p{protocol}-{port}-{direction.lower()}"
    rule = Rule(
        ref=RuleRef.of(SCOPE, name, direction, "r"), action=Action.ACCEPT,
        clauses=(Clause(ports=(PortRange(protocol=protocol, first=port, last=port),)),),
    )  # fmt: skip
    return Policy(
        name=name, scope=SCOPE, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=SCOPE),
        rules={direction: (rule,)},
    )  # fmt: skip


HTTPS_OUT, SSH_IN, DNS_OUT, PING_OUT = (
    policy(TCP, 443, OUT),
    policy(TCP, 22, IN),
    policy(UDP, 53, OUT),
    policy(ICMP, 8 << 8, OUT),
)
ALL = (HTTPS_OUT, SSH_IN, DNS_OUT, PING_OUT)
NOTHING = (policy(TCP, 1, OUT), policy(TCP, 1, IN))
"""Both directions are selected, and nothing of ours is let through."""


def world(*policies: Policy, mode: Mode = Mode.ENFORCE) -> World:
    vm: VirtualMachine = machine("vm", VM, mode=mode)
    return World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm}, policies=policies)


def out(payload: bytes, protocol: int = TCP) -> bytes:
    return ethernet(MAC, PEER_MAC, IPV4, ipv4(VM, PEER, protocol, payload))


def into(payload: bytes, protocol: int = TCP) -> bytes:
    return ethernet(PEER_MAC, MAC, IPV4, ipv4(PEER, VM, protocol, payload))


def later(source: int, target: int, flags: int = ACK) -> bytes:
    return tcp(source, target, flags, b"", seq=2, ack=2)


OPENING = [
    (OUT, out(tcp(1000, 443, SYN))), (IN, into(tcp(443, 1000, SYN | ACK, ack=2))),
    (IN, into(tcp(5000, 22, SYN))), (OUT, out(tcp(22, 5000, SYN | ACK, ack=2))),
    (OUT, out(udp(2000, 53), UDP)), (OUT, out(icmp(8), ICMP)),
]  # fmt: skip
HTTPS = [(OUT, out(later(1000, 443))), (IN, into(later(443, 1000)))]
SSH = [(IN, into(later(5000, 22))), (OUT, out(later(22, 5000)))]


class Host:
    """A gate, and what an agent beside it knows."""

    def __init__(self, gate: GateUnderTest) -> None:
        self.gate = gate
        self.ruleset: HostRuleset | None = None

    def hold(self, *policies: Policy, mode: Mode = Mode.ENFORCE) -> None:
        """Have the rules of the VM, its gate closed."""
        self.gate.world = world(*policies, mode=mode)
        self.ruleset = compile_host(self.gate.world, "host", [PATH])
        self.gate.gates.prepare(self.ruleset)
        self.gate.gates.unbind(testrun.LOOPBACK)

    def open(self) -> None:
        assert self.ruleset is not None
        self.gate.gates.bind({testrun.LOOPBACK: self.ruleset.vnics[0]})

    @property
    def vnic(self) -> VnicId:
        return self.gate.world.vms[PATH].vnics[0].id

    def send(self, direction: Direction, frame: bytes) -> Fate:
        return self.gate.send(direction, frame)

    def leaving(self) -> LeavingFlows:
        return LeavingFlows(self.gate.gates, [self.vnic])

    def coming(self) -> ComingFlows:
        return ComingFlows(self.gate.gates, [self.vnic], lambda: self.ruleset)


@pytest.fixture
def source(gate: GateUnderTest) -> Host:
    made = Host(gate)
    made.hold(*ALL)
    made.open()
    for direction, frame in OPENING:
        assert made.send(direction, frame).passed
    return made


@pytest.fixture
def destination() -> Iterator[Host]:
    loaded = GateObject.load(None, sizes=SIZES)
    made = GateUnderTest(loaded)
    yield Host(made)
    made.clear()
    loaded.close()


def carried(source: Host, destination: Host) -> Took:
    parts, flows = source.leaving().copy(whole=True)
    assert flows == 4
    return destination.coming().take(parts)


def test_all_flows_come_and_connections_go_on(source: Host, destination: Host) -> None:
    destination.hold(*ALL)
    assert carried(source, destination) == Took(flows=4, refused=0, unprotected=0)
    assert destination.send(*HTTPS[0]).reason is Reason.UNKNOWN_VNIC, "the gate is closed until it is its turn"
    destination.open()
    for direction, frame in HTTPS + SSH:
        assert destination.send(direction, frame).passed


@pytest.mark.parametrize(
    ("kept", "flows"),
    [
        ((HTTPS_OUT, NOTHING[1]), 1),
        ((SSH_IN, NOTHING[0]), 1),
        ((HTTPS_OUT, SSH_IN), 2),
        (NOTHING, 0),
        ((*ALL[1:], NOTHING[0]), 3),
    ],
)
def test_what_the_rules_deny_in_the_orientation_in_which_it_was_opened_is_not_taken(
    source: Host, destination: Host, kept: Sequence[Policy], flows: int
) -> None:
    destination.hold(*kept)
    assert carried(source, destination) == Took(flows=flows, refused=4 - flows, unprotected=0)
    destination.open()
    for mine, frames in ((HTTPS_OUT, HTTPS), (SSH_IN, SSH)):
        for direction, frame in frames:
            fate = destination.send(direction, frame)
            assert fate == (
                Fate(passed=True, reason=Reason.NONE) if mine in kept else Fate(passed=False, reason=Reason.NO_FLOW)
            )


def test_an_allowed_port_in_the_other_orientation_is_no_leave(source: Host, destination: Host) -> None:
    """The peer has opened a connection to port 22 of the VM; that the VM may open some to port 5000 is nothing to it."""
    destination.hold(policy(TCP, 5000, OUT), NOTHING[1])
    assert carried(source, destination).flows == 0


def test_who_only_observes_takes_all(source: Host, destination: Host) -> None:
    destination.hold(*NOTHING, mode=Mode.OBSERVE)
    assert carried(source, destination) == Took(flows=4, refused=0, unprotected=0)


def test_rules_that_change_meanwhile_are_asked_anew(source: Host, destination: Host) -> None:
    destination.hold(*ALL)
    leaving, coming = source.leaving(), destination.coming()
    assert coming.take(leaving.copy(whole=True)[0]).refused == 0
    destination.hold(*NOTHING)
    assert coming.take(leaving.copy(whole=True)[0]).refused == 4


def test_the_second_copy_has_what_changed(source: Host, destination: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "_TICK_NS", 0)
    destination.hold(*ALL)
    leaving, coming = source.leaving(), destination.coming()
    coming.take(leaving.copy(whole=True)[0])
    time.sleep(0.05)
    assert leaving.copy(whole=False) == ([], 0)
    time.sleep(0.05)
    assert source.send(*HTTPS[0]).passed
    parts, flows = leaving.copy(whole=False)
    assert flows == 1
    assert coming.take(parts) == Took(flows=1, refused=0, unprotected=0)


def test_many_flows_go_in_parts(source: Host, destination: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PART", 3)
    destination.hold(*ALL)
    parts, flows = source.leaving().copy(whole=True)
    assert (len(parts), flows) == (2, 4)
    assert destination.coming().take(parts).flows == 4


def test_what_is_no_part_of_this_is_refused(source: Host, destination: Host) -> None:
    destination.hold(*ALL)
    parts, _ = source.leaving().copy(whole=True)
    coming = destination.coming()
    with pytest.raises(RefusedError, match="not a handoff"):
        coming.take([parts[0][:-1]])
    other = msgspec.structs.replace(Handoff.read(parts[0]), vnic=7)
    with pytest.raises(RefusedError, match="none of those that come"):
        coming.take([msgspec.msgpack.encode(other)])
    destination.ruleset = None
    with pytest.raises(RefusedError, match="do not have vNIC"):
        coming.take(parts)
    assert destination.gate.flows.count() == 0


class TestHeld:
    """A host is told at once that the VM is gone, and its rules go; its flows are still to be told of."""

    @staticmethod
    def without(host: Host) -> None:
        """Rules come that do not have the VM."""
        host.gate.gates.unbind(testrun.LOOPBACK)
        empty = compile_host(world(*ALL), "host", [])
        host.gate.gates.prepare(empty)
        assert host.gate.gates.discard_others(empty)

    def test_flows_stay_until_they_are_handed_over(self, source: Host) -> None:
        leaving = source.leaving()
        leaving.copy(whole=True)
        self.without(source)
        assert source.gate.flows.count() == 4
        assert leaving.copy(whole=True)[1] == 4
        leaving.end()
        leaving.drop()
        assert source.gate.flows.table(source.vnic) is None
        assert source.gate.rows() == [], "they have not ended"

    def test_they_go_with_the_rules_where_nobody_takes_them(self, source: Host) -> None:
        leaving = source.leaving()
        self.without(source)
        leaving.drop()
        assert source.gate.flows.table(source.vnic) is None
        assert len(source.gate.rows()) == 4

    def test_they_stay_where_the_rules_have_the_vm_again(self, source: Host) -> None:
        leaving = source.leaving()
        self.without(source)
        source.hold(*ALL)
        leaving.drop()
        assert source.gate.flows.count() == 4

    def test_and_where_they_have_it_still(self, source: Host) -> None:
        leaving = source.leaving()
        leaving.drop()
        assert source.gate.flows.count() == 4


class TestUnprotected:
    """What a gate lets pass out of its turn is counted, though by construction there is none."""

    def test_nothing_passes_a_source_that_has_closed(self, source: Host) -> None:
        leaving = source.leaving()
        source.gate.gates.unbind(testrun.LOOPBACK)
        leaving.copy(whole=True)
        for direction, frame in HTTPS + SSH:
            assert not source.send(direction, frame).passed
        assert leaving.end() == 0

    def test_what_passes_one_that_has_not_is_seen(self, source: Host) -> None:
        leaving = source.leaving()
        leaving.copy(whole=True)
        for direction, frame in HTTPS + SSH[:1]:
            assert source.send(direction, frame).passed
        assert leaving.end() == 3

    def test_nothing_passes_a_destination_before_its_turn(self, source: Host, destination: Host) -> None:
        destination.hold(*ALL)
        leaving, coming = source.leaving(), destination.coming()
        coming.take(leaving.copy(whole=True)[0])
        for direction, frame in HTTPS + SSH:
            assert not destination.send(direction, frame).passed
        assert coming.take(leaving.copy(whole=True)[0]).unprotected == 0

    def test_what_passes_one_that_is_open_is_seen(self, source: Host, destination: Host) -> None:
        destination.hold(*ALL)
        leaving, coming = source.leaving(), destination.coming()
        coming.take(leaving.copy(whole=True)[0])
        destination.open()
        for direction, frame in (*HTTPS, *SSH, (OUT, out(udp(2001, 53), UDP))):
            assert destination.send(direction, frame).passed
        assert coming.take(leaving.copy(whole=True)[0]).unprotected == 5


class TestAmid:
    """A VM that has come without its flows: connections that policy accepts go on for a while, in one orientation or the other."""

    @staticmethod
    def arrive(destination: Host, *policies: Policy, seconds: float = 15, mode: Mode = Mode.ENFORCE) -> None:
        destination.hold(*policies, mode=mode)
        destination.gate.gates.take_amid(destination.vnic, time.monotonic_ns() + int(seconds * SECOND))
        destination.open()

    def test_connections_go_on_from_either_side(self, destination: Host) -> None:
        self.arrive(destination, *ALL)
        for direction, frame in HTTPS + SSH:
            assert destination.send(direction, frame).passed
        assert sorted((r.direction, r.port) for r in destination.gate.rows()) == [(OUT, 443), (IN, 22)]

    def test_from_the_other_side_first(self, destination: Host) -> None:
        self.arrive(destination, *ALL)
        for direction, frame in [*reversed(HTTPS), *reversed(SSH)]:
            assert destination.send(direction, frame).passed
        assert sorted((r.direction, r.port) for r in destination.gate.rows()) == [(OUT, 443), (IN, 22)]

    @pytest.mark.parametrize("direction", [OUT, IN])
    def test_what_policy_denies_in_both_orientations_does_not(self, destination: Host, direction: Direction) -> None:
        kept = SSH_IN if direction is OUT else HTTPS_OUT
        self.arrive(destination, kept, policy(TCP, 1, direction))
        ours, theirs = (HTTPS, SSH) if direction is OUT else (SSH, HTTPS)
        for way, frame in ours:
            assert destination.send(way, frame) == Fate(passed=False, reason=Reason.DENIED)
        for way, frame in theirs:
            assert destination.send(way, frame).passed

    def test_new_connections_are_judged_as_ever(self, destination: Host) -> None:
        self.arrive(destination, HTTPS_OUT, NOTHING[1])
        assert destination.send(OUT, out(tcp(1001, 443, SYN))).passed
        # From the port that the VM may connect to, a connection to it is none that it has opened.
        assert destination.send(IN, into(tcp(443, 1002, SYN))) == Fate(passed=False, reason=Reason.DENIED)
        assert destination.send(OUT, out(tcp(1003, 80, SYN))) == Fate(passed=False, reason=Reason.DENIED)

    def test_nothing_but_tcp_is_taken_so(self, destination: Host) -> None:
        self.arrive(destination, DNS_OUT, PING_OUT, NOTHING[1])
        assert destination.send(IN, into(udp(53, 2000), UDP)) == Fate(passed=False, reason=Reason.DENIED)
        assert destination.send(IN, into(icmp(0), ICMP)) == Fate(passed=False, reason=Reason.NO_FLOW)

    @pytest.mark.parametrize("seconds", [0, -5])
    def test_not_after_a_while(self, destination: Host, seconds: float) -> None:
        self.arrive(destination, *ALL, seconds=seconds)
        for direction, frame in HTTPS + SSH:
            assert destination.send(direction, frame) == Fate(passed=False, reason=Reason.NO_FLOW)

    def test_one_that_was_taken_lives_on_after_that(self, destination: Host) -> None:
        self.arrive(destination, *ALL)
        assert destination.send(*HTTPS[0]).passed
        destination.gate.gates.take_amid(destination.vnic, 0)
        destination.open()
        for direction, frame in HTTPS:
            assert destination.send(direction, frame).passed
        assert destination.send(*SSH[0]).reason is Reason.NO_FLOW

    def test_a_change_of_rules_does_not_turn_one_round(self, destination: Host) -> None:
        """In the orientation in which it stands it is judged, also while others are taken in either."""
        self.arrive(destination, HTTPS_OUT, NOTHING[1])
        assert destination.send(*HTTPS[0]).passed
        destination.hold(policy(TCP, 1000, IN), NOTHING[0])
        destination.open()
        assert destination.send(*HTTPS[0]) == Fate(passed=False, reason=Reason.DENIED)

    def test_flows_that_come_late_find_those_that_were_taken(self, source: Host, destination: Host) -> None:
        self.arrive(destination, *ALL)
        for direction, frame in HTTPS:
            assert destination.send(direction, frame).passed
        assert carried(source, destination).flows == 3, "the one that is seen here is the later"
        for direction, frame in (
            HTTPS + SSH + [(OUT, out(later(1000, 443, FIN | ACK))), (IN, into(later(443, 1000, RST)))]
        ):
            assert destination.send(direction, frame).passed


def flows(*ports: int, packets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    keys, found = np.zeros(len(ports), FLOW_KEY), np.zeros(len(ports), FLOW)
    keys["local_port"], found["packets"] = ports, packets
    return keys, found


def test_what_passed_is_what_is_more_than_known() -> None:
    passed = Passed(*flows(1, 2, 3, packets=5))
    assert passed.since(flows(1, 2, 3, packets=5)) == 0
    assert passed.since(flows(1, 3, packets=6)) == 4, "both directions of two; one that is over is nothing"
    passed.know(*flows(0, 1, 7, packets=10))
    assert passed.since(flows(0, 1, 3, 7, packets=10)) == 8
    assert passed.since(flows(1, packets=1)) == 2, "its ports have begun another"
    assert Passed(*flows()).since(flows(4)) == 2
    empty = Passed(*flows())
    empty.know(*flows(4))
    assert empty.since(flows(4)) == 0
