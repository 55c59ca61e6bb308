"""What one vNIC may use up, what a flood does to the records, and a VM in quarantine."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import Any

import pytest
from cases import (
    ACCEPT,
    CLOSED,
    FAMILIES,
    IN,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER,
    PEER6,
    STANDARD,
    STRANGER,
    V4,
    V6,
    VM,
    Case,
    Family,
    Setup,
    came,
    case,
    each,
    play,
    policy,
    role,
    sent,
)
from conftest import NETWORK, Fate, GateUnderTest, Stage, machine
from frames import ACK, ARP, BROADCAST, ESP, ICMPV6, RST, SYN, TCP, UDP, arp, ethernet, icmp, ns, tcp, udp
from namespaces import Tap, isolated

from serai.datapath import testrun
from serai.model.inventory import PortSecurity
from serai.model.policy import RuleRef
from serai.model.reasons import Reason
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.compile import compile_host

QUOTA, RATE = Reason.FLOW_QUOTA, Reason.FLOW_RATE


def flood(gate: GateUnderTest, count: int, *, ifindex: int = testrun.LOOPBACK) -> list[Fate]:
    """So many connections to an allowed port, each from another."""
    return [gate.send(OUT, V4.out(TCP, tcp(1000 + n, 443, SYN)), ifindex=ifindex) for n in range(count)]


def test_a_vnics_own_limit_counts(stage: Stage) -> None:
    gate = stage.set(Setup(security=PortSecurity(max_flows=10)).world(), PATH)
    fates = flood(gate, 40)
    assert all(fate.passed for fate in fates[:10])
    assert {fate.reason for fate in fates[11:]} == {QUOTA}, "the kernel may let one more in"
    assert gate.send(IN, V4.into(TCP, tcp(443, 1000, SYN | ACK, ack=2))).passed, "what lives goes on"
    assert gate.send(IN, V4.into(UDP, udp(1, 5000))).reason is QUOTA, "flows to it count too"
    assert gate.send(OUT, V6.out(UDP, udp(1, 53))).reason is QUOTA
    gate.forget_flows()
    assert gate.send(OUT, V6.out(UDP, udp(1, 53))).passed


@pytest.mark.parametrize("direction", [OUT, IN])
def test_new_flows_a_second(stage: Stage, direction: str) -> None:
    """Twice the limit is possible where a second ends amid it."""
    gate = stage.set(Setup(security=PortSecurity(max_flows=4000, new_flows_per_second=50)).world(), PATH)
    frames = [
        V4.out(UDP, udp(1000 + n, 53)) if direction is OUT else V4.into(UDP, udp(1000 + n, 5000)) for n in range(300)
    ]
    began = time.monotonic()
    fates = [gate.send(direction, frame) for frame in frames]
    seconds = time.monotonic() - began
    assert all(fate.passed for fate in fates[:50])
    assert sum(fate.passed for fate in fates) <= 50 * (2 + seconds)
    assert {fate.reason for fate in fates if not fate.passed} == {RATE}
    assert gate.flows.count() == sum(fate.passed for fate in fates)
    assert all(gate.send(direction, frame).passed for frame in frames[:50]), "what lives goes on"
    time.sleep(1.1)
    assert gate.send(direction, frames[-1]).passed, "another second"


def test_denied_packets_are_no_new_flows(stage: Stage) -> None:
    gate = stage.set(Setup(security=PortSecurity(new_flows_per_second=5)).world(), PATH)
    for port in range(100):
        assert gate.send(OUT, V4.out(TCP, tcp(port, 80, SYN))).reason is Reason.DENIED
        assert gate.send(OUT, V4.out(TCP, tcp(port, 443, ACK))).reason is Reason.NO_FLOW
    assert gate.send(OUT, V4.out(TCP, tcp(1, 443, SYN))).passed


@isolated
def test_a_neighbor_notices_nothing(stage: Stage) -> None:
    """Two vNICs on one gate: one beyond each of its limits."""
    greedy = machine("vm", VM, role="vm", security=PortSecurity(max_flows=20, new_flows_per_second=30))
    modest = machine("modest", "10.0.0.5", role="vm")
    vms = (greedy, modest, machine("peer", PEER, role="peer"))
    gate, other = stage.gate, Tap("tap1")
    gate.world = World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=STANDARD)
    ruleset = compile_host(gate.world, "host", [greedy.path, modest.path])
    gate.gates.prepare(ruleset)
    here, there = (next(v for v in ruleset.vnics if v.path.startswith(f"{vm.path}/")) for vm in (greedy, modest))
    gate.gates.bind({testrun.LOOPBACK: here, other.ifindex: there})
    gate.forget()
    header: dict[str, Any] = {"mac": "52:54:00:00:00:05", "source": "10.0.0.5"}
    try:
        assert gate.send(OUT, V4.out(TCP, tcp(1, 443, SYN), **header), ifindex=other.ifindex).passed
        fates = flood(gate, 200)
        assert {fate.reason for fate in fates[-50:]} <= {QUOTA, RATE}
        for port in range(2, 60):
            assert gate.send(OUT, V4.out(TCP, tcp(port, 443, SYN), **header), ifindex=other.ifindex).passed
        assert {row.vnic for row in gate.denials()} == {here.id}
    finally:
        gate.gates.unbind(other.ifindex)
        other.delete()


def test_a_flood_of_denied_packets(stage: Stage) -> None:
    """4000 ports, which is more than there is room for: no verdict changes, and none is lost uncounted."""
    gate = stage.set(Setup().world(), PATH)
    assert gate.send(OUT, V4.out(TCP, tcp(1000, 443, SYN))).passed
    lost_before, _ = gate.gates.lost()
    counted_before = sum(drop.packets for drop in gate.gates.drops())
    for port in range(4000):
        assert gate.send(IN, V4.into(UDP, udp(7, 6000 + port))).reason is Reason.DENIED
        if port % 500 == 0:
            assert gate.send(IN, V4.into(TCP, tcp(443, 1000, SYN | ACK, ack=2))).passed
            assert gate.send(OUT, V4.out(UDP, udp(1 + port % 50, 53))).passed
            assert gate.send(OUT, V4.out(TCP, tcp(9, 80, SYN))).reason is Reason.DENIED
    lost = gate.gates.lost()[0] - lost_before
    assert lost > 0
    assert sum(row.packets_in + row.packets_out for row in gate.denials()) + lost == 4008
    assert sum(drop.packets for drop in gate.gates.drops()) - counted_before == 4008, "these are never lost"


def test_one_record_for_many_of_one_kind(stage: Stage) -> None:
    """Nobody told apart by policy is told apart here: strangers are one, whatever their address."""
    gate = stage.set(Setup().world(), PATH)
    for host in range(100, 200):
        assert gate.send(OUT, V4.out(TCP, tcp(1, 443, SYN), target=f"10.9.9.{host}")).reason is Reason.DENIED
    (row,) = gate.denials()
    assert (row.packets_out, row.port, str(row.remote), row.identity) == (100, 443, "10.9.9.199", 0)


def test_samples_are_few(stage: Stage) -> None:
    gate = stage.set(Setup().world(), PATH)
    gate.samples()
    began = time.monotonic()
    for _ in range(100):
        gate.send(OUT, V6.out(TCP, tcp(1, 80, SYN)))
        gate.send(OUT, V6.out(TCP, tcp(1, 443, RST)))
    found = gate.samples()
    assert {s.reason for s in found} == {Reason.DENIED, Reason.NO_FLOW}
    assert len(found) <= 2 * (2 + time.monotonic() - began), "one a second of each kind"
    sample = next(s for s in found if s.reason is Reason.DENIED)
    assert (str(sample.local), str(sample.remote)) == (V6.vm, V6.peer)
    assert (sample.local_port, sample.remote_port, sample.protocol, sample.tcp_flags) == (1, 80, TCP, SYN)
    assert (sample.direction, sample.length, sample.observed) == (OUT, 14 + 40 + 20, False)


def test_a_full_ring_costs_samples_only(stage: Stage) -> None:
    gate = stage.set(Setup().world(), PATH)
    _, lost_before = gate.gates.lost()
    fates = {gate.send(OUT, V4.out(TCP, tcp(1, port, SYN))).reason for port in range(1000, 2000)}
    assert fates == {Reason.DENIED}
    assert len(gate.samples()) + gate.gates.lost()[1] - lost_before <= 1000


# Quarantine

DOCTOR = (ip_network(f"{PEER}/32"), ip_network(f"{PEER6}/128"))


def of_quarantine(family: Family) -> list[Case]:
    """Every policy accepts everything, and none is asked."""
    return [
        case("to the doctor, any port", sent(family.out(TCP, tcp(1, 80, SYN))), sent(family.out(UDP, udp(1, 9))),
             sent(family.out(ESP, bytes(16))), sent(family.out(family.icmp, icmp(family.echo))), flows=4),
        case("from the doctor, any port", came(family.into(TCP, tcp(1, 80, SYN))), came(family.into(UDP, udp(1, 9))), flows=2),
        case("to others", sent(family.out(TCP, tcp(1, 443, SYN), target=family.stranger), Reason.DENIED),
             sent(family.out(UDP, udp(1, 53), target=family.stranger), Reason.DENIED)),
        case("from others", came(family.into(TCP, tcp(1, 22, SYN), source=family.stranger), Reason.DENIED)),
        case("forged", sent(family.out(TCP, tcp(1, 80, SYN), source=family.stranger), Reason.FOREIGN_IP)),
        case("in the middle of nothing", sent(family.out(TCP, tcp(1, 80, ACK)), Reason.NO_FLOW)),
    ]  # fmt: skip


ISOLATED = {"mode": Mode.ISOLATE, "quarantine": DOCTOR, "policies": OPEN}
QUARANTINE = [
    *(row for family in FAMILIES for row in each(family, *of_quarantine(family))),
    case("who is there", sent(ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER))),
         sent(V6.out(ICMPV6, ns(PEER6), hops=255))),
]  # fmt: skip


@pytest.mark.parametrize("policies", [OPEN, CLOSED, STANDARD], ids=["everything accepted", "nothing", "something"])
@pytest.mark.parametrize("row", QUARANTINE, ids=lambda row: row.says)
def test_quarantine(stage: Stage, row: Case, policies: tuple) -> None:
    play(stage, case(row.says, *row.steps, flows=row.flows, **{**ISOLATED, "policies": policies}))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_quarantine_cuts_what_lives(stage: Stage, family: Family) -> None:
    everybody = (policy("out", OUT, (ACCEPT, None, ())), policy("in", IN, (ACCEPT, role("peer"), ())))
    gate = stage.set(Setup(policies=everybody).world(), PATH)
    for target in (family.peer, family.stranger):
        assert gate.send(OUT, family.out(TCP, tcp(1, 443, SYN), target=target)).passed
        assert gate.send(IN, family.into(TCP, tcp(443, 1, SYN | ACK, ack=2), source=target)).passed
    gate.guard(Setup(**{**ISOLATED, "policies": everybody}).world(), PATH)
    cut = family.into(TCP, tcp(443, 1, ACK, seq=2, ack=2), source=family.stranger)
    assert gate.send(IN, cut).reason is Reason.DENIED
    assert gate.send(IN, cut).reason is Reason.NO_FLOW
    assert gate.send(IN, family.into(TCP, tcp(443, 1, ACK, seq=2, ack=2))).passed
    assert {row.rule for row in gate.denials() if row.reason is Reason.DENIED} == {RuleRef.isolated(OUT).id}
    assert RuleRef.quarantine(OUT).id in {row.rule for row in gate.rows()}
    gate.guard(Setup(policies=everybody).world(), PATH)
    assert gate.send(
        OUT, family.out(TCP, tcp(2, 443, SYN), target=STRANGER if family is V4 else family.stranger)
    ).passed
