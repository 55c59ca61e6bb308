"""The gate's packet table: description, direction, bytes, expected fate, and what the flow table then holds."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv6Address, ip_network
from typing import Any

import pytest
from conftest import NETWORK, Fate, GateUnderTest, machine
from frames import (
    ACK,
    ARP,
    BROADCAST,
    FIN,
    ICMP,
    IPV4,
    IPV6,
    QINQ,
    RARP,
    RST,
    SYN,
    TCP,
    UDP,
    VLAN,
    arp,
    ethernet,
    icmp,
    icmp_error,
    ipv4,
    tcp,
    udp,
)

from serai.datapath import testrun
from serai.model.inventory import AllowedAddress, Mac, PortSecurity
from serai.model.policy import (
    ANY_PROTOCOL,
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    Operator,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.reasons import Reason
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

GRE = 47
NOBODY = "0.0.0.0"  # noqa: S104  # as an address in a packet
OUT, IN = Direction.EGRESS, Direction.INGRESS
VM, VM2, PEER, STRANGER = "10.0.0.1", "10.0.0.9", "10.0.0.2", "10.0.0.77"
MAC, PEER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
SCOPE = Scope("/acme/shop")
STRAY_IPV6 = b"\x60\0\0\0\0\x08\x11\x40" + IPv6Address("2001:db8::1").packed * 2 + udp(1000, 53, b"")


def policy(name: str, direction: Direction, *rules: tuple[Action, str | None, tuple[PortRange, ...]]) -> Policy:
    """A Tenant policy for the VM ``vm``: action, role of the peer (None: anybody), ports."""

    def group(role: str) -> Group:
        wanted = Expression(key="role", operator=Operator.IN, values=frozenset({role}))
        return Group(scope=SCOPE, expressions=frozenset({wanted}))

    made = tuple(
        Rule(
            ref=RuleRef.of(SCOPE, name, direction, f"r{at}"),
            action=action,
            clauses=(Clause(peer=group(role) if role else None, ports=ports),),
        )
        for at, (action, role, ports) in enumerate(rules)
    )
    return Policy(
        name=name, scope=SCOPE, tier=Tier.TENANT, priority=500, staged=False, subject=group("vm"),
        rules={direction: made},
    )  # fmt: skip


def port(protocol: int, first: int, last: int | None = None) -> PortRange:
    return PortRange(protocol=protocol, first=first, last=first if last is None else last)


ACCEPT, DENY = Action.ACCEPT, Action.DENY
OUT_RULES = (
    (DENY, "peer", (port(TCP, 445),)),
    (
        ACCEPT,
        "peer",
        (port(TCP, 443, 500), port(UDP, 53), PortRange(protocol=ICMP), port(50, 0, 65535), port(GRE, 0, 65535)),
    ),
)
IN_RULES = ((ACCEPT, "peer", (port(TCP, 22), port(UDP, 0, 65535))),)


def world(*policies: Policy, mode: Mode = Mode.ENFORCE) -> World:
    vms = (machine("vm", VM, VM2, role="vm", mode=mode), machine("peer", PEER, role="peer"))
    return World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=policies)


STANDARD = (policy("out", OUT, *OUT_RULES), policy("in", IN, *IN_RULES))


@pytest.fixture
def guarded(gate: GateUnderTest) -> GateUnderTest:
    gate.guard(world(*STANDARD), "/acme/shop:vm")
    return gate


def out(
    payload: bytes, *, source: str = VM, target: str = PEER, protocol: int = TCP, mac: str = MAC, **header: Any
) -> bytes:
    return ethernet(mac, PEER_MAC, IPV4, ipv4(source, target, protocol, payload, **header))


def into(payload: bytes, *, source: str = PEER, target: str = VM, protocol: int = TCP, **header: Any) -> bytes:
    return ethernet(PEER_MAC, MAC, IPV4, ipv4(source, target, protocol, payload, **header))


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    says: str
    direction: Direction
    frame: bytes
    reason: Reason = Reason.NONE
    flows: int = 0


CASES = [
    Case("an accepted connection opens a flow", OUT, out(tcp(1000, 443, SYN)), flows=1),
    Case("the last port of a range belongs to it", OUT, out(tcp(1000, 500, SYN)), flows=1),
    Case("the port behind a range does not", OUT, out(tcp(1000, 501, SYN)), Reason.DENIED),
    Case("an earlier Deny inside a later range", OUT, out(tcp(1000, 445, SYN)), Reason.DENIED),
    Case("a stranger is no peer", OUT, out(tcp(1000, 443, SYN), target=STRANGER), Reason.DENIED),
    Case("a second address of the vNIC", OUT, out(tcp(1000, 443, SYN), source=VM2), flows=1),
    Case("foreign source MAC", OUT, out(tcp(1000, 443, SYN), mac=PEER_MAC), Reason.FOREIGN_MAC),
    Case("foreign source address", OUT, out(tcp(1000, 443, SYN), source=PEER), Reason.FOREIGN_IP),
    Case("source address 0.0.0.0", OUT, out(tcp(1000, 443, SYN), source=NOBODY), Reason.FOREIGN_IP),
    Case("a packet in the middle of nothing", OUT, out(tcp(1000, 443, ACK)), Reason.NO_FLOW),
    Case("SYN and FIN together", OUT, out(tcp(1000, 443, SYN | FIN)), Reason.TCP_FLAGS),
    Case("SYN and ACK without a SYN before", OUT, out(tcp(1000, 443, SYN | ACK)), Reason.NO_FLOW),
    Case("no flags at all", OUT, out(tcp(1000, 443, 0)), Reason.TCP_FLAGS),
    Case("SYN and RST together", OUT, out(tcp(1000, 443, SYN | RST)), Reason.TCP_FLAGS),
    Case("FIN without ACK", IN, into(tcp(443, 1000, FIN)), Reason.TCP_FLAGS),
    Case("a reset for nothing", IN, into(tcp(443, 1000, RST)), Reason.NO_FLOW),
    Case("UDP opens a flow", OUT, out(udp(1000, 53), protocol=UDP), flows=1),
    Case("UDP to a port that no rule names", OUT, out(udp(1000, 54), protocol=UDP), Reason.DENIED),
    Case("ICMP echo request", OUT, out(icmp(8), protocol=ICMP), flows=1),
    Case("ICMP echo reply without a request", OUT, out(icmp(0), protocol=ICMP), Reason.NO_FLOW),
    Case("ICMP echo request with a code", OUT, out(icmp(8, 5), protocol=ICMP), Reason.ICMP_TYPE),
    Case("ICMP timestamp request", OUT, out(icmp(13), protocol=ICMP), Reason.ICMP_TYPE),
    Case("ICMP redirect", IN, into(icmp(5), protocol=ICMP), Reason.ICMP_TYPE),
    Case("a protocol without ports that a rule names", OUT, out(b"esp-data", protocol=50), flows=1),
    Case("a protocol without ports that no rule names", OUT, out(b"vrrp-data", protocol=112), Reason.DENIED),
    Case("a tunnel, whatever rules say", OUT, out(b"gre-data", protocol=GRE), Reason.TUNNEL),
    Case("a tunnel to the VM is what rules say", IN, into(b"gre-data", protocol=GRE), Reason.DENIED),
    Case("protocol number 0", OUT, out(bytes(8), protocol=0), Reason.DENIED),
    Case("an accepted connection to the VM", IN, into(tcp(5000, 22, SYN)), flows=1),
    Case("a denied connection to the VM", IN, into(tcp(5000, 80, SYN)), Reason.DENIED),
    Case("a frame flooded for another station", IN,
         ethernet(PEER_MAC, "52:54:00:00:00:03", IPV4, ipv4(PEER, VM, TCP, tcp(5000, 22, SYN))), Reason.NOT_ADDRESSED),
    Case("another's address in a frame for the VM", IN, into(tcp(5000, 22, SYN), target=STRANGER), Reason.NOT_ADDRESSED),
    Case("UDP broadcast to the VM's network", IN,
         ethernet(PEER_MAC, BROADCAST, IPV4, ipv4(PEER, "10.0.0.255", UDP, udp(5, 6))), flows=1),
    Case("broadcast frame with another VM's address", IN,
         ethernet(PEER_MAC, BROADCAST, IPV4, ipv4(STRANGER, PEER, UDP, udp(5, 6))), Reason.NOT_ADDRESSED),
    Case("TCP in a broadcast frame", IN,
         ethernet(PEER_MAC, BROADCAST, IPV4, ipv4(PEER, "10.0.0.255", TCP, tcp(5, 22, SYN))), Reason.NOT_ADDRESSED),
    Case("own ARP request", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER))),
    Case("own ARP for the second address", OUT, ethernet(MAC, BROADCAST, ARP, arp(2, MAC, VM2, VM2))),
    Case("ARP probe from 0.0.0.0 (RFC 5227)", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, NOBODY, VM))),
    Case("ARP request with a foreign sender", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, PEER, VM)),
         Reason.FOREIGN_ARP),
    Case("ARP reply with a foreign sender", OUT, ethernet(MAC, PEER_MAC, ARP, arp(2, MAC, STRANGER, PEER)),
         Reason.FOREIGN_ARP),
    Case("ARP with a foreign sender MAC in an honest frame", OUT,
         ethernet(MAC, BROADCAST, ARP, arp(2, PEER_MAC, VM, PEER)), Reason.FOREIGN_ARP),
    Case("ARP cut short", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER)[:20]), Reason.MALFORMED),
    Case("ARP to the VM", IN, ethernet(PEER_MAC, MAC, ARP, arp(2, PEER_MAC, PEER, VM))),
    Case("RARP that announces the VM itself", OUT, ethernet(MAC, BROADCAST, RARP, arp(3, MAC, NOBODY, NOBODY, MAC))),
    Case("RARP that asks for another", OUT, ethernet(MAC, BROADCAST, RARP, arp(3, MAC, NOBODY, NOBODY, PEER_MAC)),
         Reason.FOREIGN_ARP),
    Case("RARP reply", OUT, ethernet(MAC, BROADCAST, RARP, arp(4, MAC, NOBODY, NOBODY, MAC)), Reason.FOREIGN_ARP),
    Case("ARP for addresses of other lengths", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER, lengths=(8, 4))),
         Reason.MALFORMED),
    Case("RARP that announces another", OUT, ethernet(MAC, BROADCAST, RARP, arp(3, PEER_MAC, NOBODY, NOBODY, PEER_MAC)),
         Reason.FOREIGN_ARP),
    Case("IPv6 from a VM that has none", OUT, ethernet(MAC, PEER_MAC, IPV6, STRAY_IPV6),
         Reason.FOREIGN_IP),
    Case("IP version 0 under the IPv6 type", OUT, ethernet(MAC, PEER_MAC, IPV6, bytes(60)), Reason.MALFORMED),
    Case("another ethertype", OUT, ethernet(MAC, PEER_MAC, 0x88CC, bytes(60)), Reason.ETHERTYPE),
    Case("802.3 length instead of a type", OUT, ethernet(MAC, PEER_MAC, 0x0026, bytes(60)), Reason.LLC),
    Case("VLAN tag", OUT, ethernet(MAC, PEER_MAC, VLAN, b"\0\5\x08\0" + bytes(60)), Reason.VLAN),
    Case("service tag (802.1ad)", OUT, ethernet(MAC, PEER_MAC, QINQ, b"\0\5\x08\0" + bytes(60)), Reason.VLAN),
    Case("IP version 6 under the IPv4 type", OUT, ethernet(MAC, PEER_MAC, IPV4, b"\x60" + ipv4(VM, PEER, TCP, tcp(1, 443, SYN))[1:]),
         Reason.MALFORMED),
    Case("header length of 4 words", OUT, out(tcp(1, 443, SYN), ihl=4), Reason.MALFORMED),
    Case("header length beyond the packet", OUT, out(b"", ihl=15, total=20), Reason.MALFORMED),
    Case("total length beyond the frame", OUT, out(tcp(1, 443, SYN), total=1400), Reason.MALFORMED),
    Case("total length shorter than the header", OUT, out(tcp(1, 443, SYN), total=12), Reason.MALFORMED),
    Case("TCP cut short", OUT, out(tcp(1, 443, SYN)[:12]), Reason.MALFORMED),
    Case("TCP with a data offset of 4", OUT, out(tcp(1, 443, SYN, offset=4)), Reason.MALFORMED),
    Case("TCP header beyond the packet's end", OUT, out(tcp(1, 443, SYN), total=30), Reason.MALFORMED),
    Case("TCP options beyond the packet's end", OUT, out(tcp(1, 443, SYN, offset=6)), Reason.MALFORMED),
    Case("UDP without its header", OUT, out(b"1234", protocol=UDP), Reason.MALFORMED),
    Case("IP options are stepped over", OUT, out(tcp(1000, 443, SYN), options=b"\x94\x04\0\0"), flows=1),
    Case("first fragment", OUT, out(udp(1000, 53, bytes(8)), protocol=UDP, fragment=0x2000), flows=1),
    Case("first fragment of what is denied", OUT, out(udp(1000, 54, bytes(8)), protocol=UDP, fragment=0x2000), Reason.DENIED),
    Case("first fragment that does not end where another can begin", OUT,
         out(udp(1000, 53, bytes(7)), protocol=UDP, fragment=0x2000), Reason.MALFORMED),
    Case("later fragment", OUT, out(bytes(24), protocol=UDP, fragment=0x0003), Reason.FRAGMENT),
    Case("last fragment to the VM", IN, into(bytes(24), protocol=UDP, fragment=0x0003), Reason.FRAGMENT),
    Case("ICMP error about nothing", IN,
         into(icmp_error(3, 4, ipv4(VM, PEER, TCP, tcp(1000, 443, SYN))), protocol=ICMP), Reason.NO_FLOW),
    Case("ICMP error that quotes too little", IN, into(icmp_error(3, 4, ipv4(VM, PEER, TCP, b"")), protocol=ICMP),
         Reason.MALFORMED),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_packet(guarded: GateUnderTest, case: Case) -> None:
    fate = guarded.send(case.direction, case.frame)
    assert fate == Fate(passed=case.reason is Reason.NONE, reason=case.reason)
    rows = guarded.rows()
    assert len(rows) == case.flows
    assert all(row.direction is case.direction for row in rows)


@pytest.mark.parametrize("case", [c for c in CASES if c.reason.name.startswith("FOREIGN")], ids=lambda case: case.says)
def test_no_flow_and_no_rule_excuses_forgery(gate: GateUnderTest, case: Case) -> None:
    everything = policy("all", OUT, (ACCEPT, None, ()))
    gate.guard(world(everything), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 443, SYN))).passed
    assert gate.send(case.direction, case.frame) == Fate(passed=False, reason=case.reason)


def test_closed_without_a_vnic(gate: GateUnderTest) -> None:
    for direction, frame in ((OUT, out(tcp(1, 443, SYN))), (IN, into(tcp(1, 22, SYN)))):
        assert gate.send(direction, frame) == Fate(passed=False, reason=Reason.UNKNOWN_VNIC)


def test_tcp_life(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    assert guarded.send(IN, into(tcp(443, 1000, SYN | ACK))).passed
    assert guarded.send(OUT, out(tcp(1000, 443, ACK, b"hello"))).passed
    assert guarded.send(IN, into(tcp(444, 1000, ACK))).reason is Reason.NO_FLOW, "another port is no reply"
    (row,) = guarded.rows()
    assert (row.packets_out, row.packets_in) == (2, 1)
    assert (row.bytes_out, row.bytes_in) == (54 + 59, 54)
    assert (row.protocol, row.port, str(row.remote)) == (TCP, 443, PEER)


def test_a_syn_against_the_flow_is_a_connection_of_its_own(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(80, 443, SYN))).passed
    assert guarded.send(IN, into(tcp(443, 80, SYN))).reason is Reason.DENIED
    assert guarded.send(IN, into(tcp(443, 80, SYN | ACK))).passed, "and the flow lives"


def test_what_observing_took_over_vouches_for_no_new_connection(gate: GateUnderTest) -> None:
    gate.guard(world(*STANDARD, mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(IN, into(tcp(443, 80, ACK))).passed
    gate.guard(world(*STANDARD), "/acme/shop:vm")
    assert gate.send(IN, into(tcp(443, 80, SYN))).reason is Reason.DENIED


def test_a_removed_vm_takes_its_flows_along(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    alone = world(*STANDARD)
    without = dataclasses.replace(alone, vms={p: vm for p, vm in alone.vms.items() if p != "/acme/shop:peer"})
    ruleset = compile_host(without, "host", ["/acme/shop:vm"])
    guarded.gates.prepare(ruleset)
    guarded.gates.bind({testrun.LOOPBACK: ruleset.vnics[0]})
    # Before anything old is discarded: what is gone must not be known any more.
    assert guarded.send(OUT, out(tcp(1000, 443, ACK))).reason is Reason.DENIED
    assert guarded.send(OUT, out(tcp(1001, 443, SYN))).reason is Reason.DENIED


def test_gso_counts_segments(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN) + bytes(3000)), gso_segs=3).passed
    assert guarded.rows()[0].packets_out == 3


def test_port_reuse_after_reset_is_judged_anew(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    assert guarded.send(IN, into(tcp(443, 1000, RST | ACK, ack=2))).passed
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    (row,) = guarded.rows()
    assert (row.packets_out, row.packets_in) == (1, 0)


def test_icmp_error_about_a_flow_passes(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    about = ipv4(VM, PEER, TCP, tcp(1000, 443, SYN))
    other = ipv4(VM, PEER, TCP, tcp(1001, 443, SYN))
    router = "10.0.0.254"
    elsewhere = ethernet(PEER_MAC, MAC, IPV4, ipv4(router, VM2, ICMP, icmp_error(3, 4, about)))
    assert guarded.send(IN, elsewhere).reason is Reason.NO_FLOW, "an error goes to whoever sent what it quotes"
    assert guarded.send(IN, into(icmp_error(3, 4, about), protocol=ICMP, source=router)).passed
    assert guarded.send(IN, into(icmp_error(3, 4, other), protocol=ICMP, source=router)).reason is Reason.NO_FLOW
    assert guarded.rows()[0].packets_in == 0, "an error is no packet of the flow"


def test_icmp_error_by_the_vm_about_a_flow_to_it(guarded: GateUnderTest) -> None:
    assert guarded.send(IN, into(udp(5000, 99), protocol=UDP)).passed
    about = ipv4(PEER, VM, UDP, udp(5000, 99))
    assert guarded.send(OUT, out(icmp_error(3, 3, about), protocol=ICMP)).passed
    to_another = out(icmp_error(3, 3, about), protocol=ICMP, target=STRANGER)
    assert guarded.send(OUT, to_another).reason is Reason.NO_FLOW, "a flow with one opens no way to another"


def test_echo_reply_belongs_to_its_request(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(icmp(8, identifier=5), protocol=ICMP)).passed
    assert guarded.send(IN, into(icmp(0, identifier=5), protocol=ICMP)).passed
    assert guarded.send(IN, into(icmp(0, identifier=6), protocol=ICMP)).reason is Reason.NO_FLOW
    (row,) = guarded.rows()
    assert (row.packets_out, row.packets_in, row.port) == (1, 1, 8 << 8)


def test_an_echo_request_is_no_reply_to_one_with_the_same_identifier(guarded: GateUnderTest) -> None:
    for identifier in (5, 0, 0x0800, 0xFFFF):
        assert guarded.send(OUT, out(icmp(8, identifier=identifier), protocol=ICMP)).passed
        assert guarded.send(IN, into(icmp(8, identifier=identifier), protocol=ICMP)).reason is Reason.DENIED


def test_icmp_error_about_an_echo(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(icmp(8, identifier=5), protocol=ICMP)).passed
    about = ipv4(VM, PEER, ICMP, icmp(8, identifier=5))
    assert guarded.send(IN, into(icmp_error(11, 0, about), protocol=ICMP, source=STRANGER)).passed
    forged = ipv4(VM, PEER, ICMP, icmp(0, identifier=5))
    assert guarded.send(IN, into(icmp_error(11, 0, forged), protocol=ICMP)).reason is Reason.NO_FLOW


def test_policy_change_reaches_established_flows(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    assert guarded.send(OUT, out(tcp(1001, 450, SYN))).passed
    only_443 = (policy("out", OUT, (ACCEPT, "peer", (port(TCP, 443),))), STANDARD[1])
    guarded.guard(world(*only_443), "/acme/shop:vm")
    assert guarded.send(IN, into(tcp(443, 1000, SYN | ACK))).passed, "still accepted, judged as it was opened"
    assert guarded.send(IN, into(tcp(450, 1001, SYN | ACK))).reason is Reason.DENIED
    (denial,) = guarded.denials()
    assert (denial.direction, denial.port) == (OUT, 450), "recorded as it was opened, not as the reply goes"
    assert guarded.send(IN, into(tcp(450, 1001, SYN | ACK))).reason is Reason.NO_FLOW, "and gone"
    assert {row.port for row in guarded.rows()} == {443}


def test_peer_that_loses_its_label_loses_its_flows(guarded: GateUnderTest) -> None:
    assert guarded.send(OUT, out(tcp(1000, 443, SYN))).passed
    changed = world(*STANDARD)
    stranger = dataclasses.replace(changed.vms["/acme/shop:peer"], labels={"role": "other"})
    guarded.guard(dataclasses.replace(changed, vms={**changed.vms, stranger.path: stranger}), "/acme/shop:vm")
    assert guarded.send(OUT, out(tcp(1000, 443, ACK))).reason is Reason.DENIED


def test_observe_passes_and_records(gate: GateUnderTest) -> None:
    gate.guard(world(*STANDARD, mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 80, SYN))) == Fate(passed=True, reason=Reason.NONE)
    assert gate.send(IN, into(tcp(80, 1000, SYN | ACK))).passed
    (row,) = gate.rows()
    assert (row.outcome, row.reason, row.packets_out, row.packets_in) == ("observed", Reason.DENIED, 1, 1)
    forged = gate.send(OUT, out(tcp(1000, 443, SYN), mac=PEER_MAC))
    assert forged == Fate(passed=True, reason=Reason.FOREIGN_MAC)
    assert [d.outcome for d in gate.denials()] == ["observed"]


def test_observe_adopts_live_connections_the_right_way_round(gate: GateUnderTest) -> None:
    gate.guard(world(*STANDARD, mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(IN, into(tcp(443, 1000, ACK, b"reply"))).passed
    (row,) = gate.rows()
    assert (row.direction, row.port, row.outcome) == (OUT, 443, "accepted")
    gate.guard(world(*STANDARD), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 443, ACK))).passed, "it lives on when enforcement begins"


def test_rules_that_come_while_observing_turn_connections_round(gate: GateUnderTest) -> None:
    gate.guard(world(mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(22, 5000, ACK, b"reply"))).passed
    assert gate.rows()[0].direction is OUT, "without rules nobody can tell"
    closed = policy("nothing-out", OUT)
    gate.guard(world(closed, policy("in", IN, *IN_RULES), mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(22, 5000, ACK, b"reply"))).passed
    (row,) = gate.rows()
    assert (row.direction, row.port, row.outcome) == (IN, 22, "accepted")
    gate.guard(world(closed, policy("in", IN, *IN_RULES)), "/acme/shop:vm")
    assert gate.send(IN, into(tcp(5000, 22, ACK))).passed


def test_enforcing_ends_what_was_only_observed(gate: GateUnderTest) -> None:
    gate.guard(world(*STANDARD, mode=Mode.OBSERVE), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 80, SYN))).passed
    gate.guard(world(*STANDARD), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 80, ACK))).reason is Reason.DENIED


def test_denials_name_who_and_which_rule(guarded: GateUnderTest) -> None:
    for source in (1, 2, 3):
        guarded.send(OUT, out(tcp(source, 445, SYN)))
    (row,) = guarded.denials()
    assert (row.packets_out, row.port, str(row.remote), row.reason) == (3, 445, PEER, Reason.DENIED)
    assert row.rule == RuleRef.of(SCOPE, "out", OUT, "r0").id


def test_a_full_flow_table_is_the_vnics_own_trouble(guarded: GateUnderTest) -> None:
    fates = [guarded.send(OUT, out(tcp(source, 443, SYN))) for source in range(1, 120)]
    assert fates[0].passed
    assert fates[-1].reason is Reason.FLOW_QUOTA
    assert guarded.send(IN, into(tcp(443, 1, SYN | ACK))).passed, "flows that live go on"


def test_staged_policy_is_judged_beside(gate: GateUnderTest) -> None:
    staged = dataclasses.replace(
        policy("close", OUT, (DENY, None, (PortRange(protocol=ANY_PROTOCOL),))), staged=True, priority=1
    )
    gate.guard(world(*STANDARD, staged), "/acme/shop:vm")
    assert gate.send(OUT, out(tcp(1000, 443, SYN))).passed
    (row,) = gate.rows()
    assert (row.outcome, row.staged) == ("accepted", "denied")


def test_many_intervals_need_pages_of_pages(gate: GateUnderTest) -> None:
    odd = tuple(port(TCP, number) for number in range(1, 400, 2))
    gate.guard(world(policy("out", OUT, (ACCEPT, "peer", odd))), "/acme/shop:vm")
    for number in (1, 2, 17, 18, 199, 200, 399, 400, 65535):
        assert gate.send(OUT, out(tcp(1000, number, SYN))).passed == (number % 2 == 1 and number < 400), number
        gate.forget_flows()


VIRTUAL_MAC = Mac("00:00:5e:00:01:07")


def allowed(prefix: str, mac: Mac | None = None) -> AllowedAddress:
    return AllowedAddress(prefix=ip_network(prefix), mac=mac)


@pytest.mark.parametrize(
    ("addresses", "source"),
    [
        ((allowed("10.0.0.254/32"), allowed("10.0.0.254/32", VIRTUAL_MAC)), "10.0.0.254"),
        ((allowed("10.9.0.0/16"), allowed("10.9.0.1/32", VIRTUAL_MAC)), "10.9.0.1"),
        ((allowed(f"{VM2}/32", VIRTUAL_MAC),), VM2),
        ((allowed("10.0.0.0/24", VIRTUAL_MAC),), VM2),
    ],
    ids=["one prefix, two MACs", "one in the other", "an address of its own, too", "an address of its own inside"],
)
def test_each_allowed_prefix_counts(gate: GateUnderTest, addresses: tuple[AllowedAddress, ...], source: str) -> None:
    """By its own MAC it uses its addresses and prefixes without one, by another what is allowed with that one."""
    everything = policy("all", OUT, (ACCEPT, None, ()))
    vm = machine("vm", VM, VM2, role="vm", security=PortSecurity(allowed=addresses))
    gate.guard(dataclasses.replace(world(everything), vms={vm.path: vm}), vm.path)
    for mac in (MAC, VIRTUAL_MAC):
        assert gate.send(OUT, out(tcp(1000, 443, SYN), source=source, mac=mac)).passed, mac
