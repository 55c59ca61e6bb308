"""Fragments: the first is judged, the others follow it, and none writes over what another has said."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from cases import (
    CLOSED,
    FAMILIES,
    IN,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER6,
    PEER_MAC,
    STRANGER,
    V4,
    V6,
    VM6,
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
    DESTINATION,
    ESP,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    IPV6,
    MORE,
    ROUTING,
    SCTP,
    SYN,
    TCP,
    UDP,
    destination_options,
    ethernet,
    fragment6,
    icmp,
    icmp_error,
    icmpv6_error,
    ipv4,
    ipv6,
    piece,
    piece6,
    sctp,
    sctp_init,
    tcp,
    udp,
)

from serai.datapath.fragments import Fragments
from serai.model.reasons import Reason

OVERLAP, SHORT, TAIL = Reason.FRAGMENT_OVERLAP, Reason.FRAGMENT_SHORT, Reason.FRAGMENT
SYN443, SYN80 = tcp(1000, 443, SYN, bytes(76)), tcp(1000, 80, SYN, bytes(76))
DNS, OTHER = udp(1000, 53, bytes(range(88))), udp(1000, 54, bytes(range(88)))


@dataclasses.dataclass(frozen=True)
class Datagram:
    """A packet to be cut: by bytes of what follows its IP header."""

    family: Family
    protocol: int
    payload: bytes
    identifier: int = 1
    back: bool = False

    def piece(self, first: int, last: int | None = None, *, more: bool | None = None) -> bytes:
        family = self.family
        ends = (family.peer, family.vm) if self.back else (family.vm, family.peer)
        whole = family.packet(
            *ends, self.protocol, self.payload, **({"identifier": self.identifier} if family is V4 else {})
        )
        packet = (
            piece(whole, first, last, more=more)
            if family is V4
            else piece6(whole, first, last, more=more, identifier=self.identifier)
        )
        macs = (PEER_MAC, MAC) if self.back else (MAC, PEER_MAC)
        return family.frame(packet, source=macs[0], target=macs[1])

    def out(self, first: int, last: int | None = None, reason: Reason = Reason.NONE, **more: bool) -> Step:
        return sent(self.piece(first, last, **more), reason)

    def into(self, first: int, last: int | None = None, reason: Reason = Reason.NONE, **more: bool) -> Step:
        return came(self.piece(first, last, **more), reason)


def of_first(family: Family) -> list[Case]:
    """Does the first fragment hold what it is to be judged by?"""
    dns, segment = Datagram(family, UDP, DNS), Datagram(family, TCP, SYN443)
    optioned = Datagram(family, TCP, tcp(1000, 443, SYN, bytes(60), options=b"\1" * 20))
    return [
        case("TCP of 8 bytes", segment.out(0, 8, SHORT), segment.out(8, None, TAIL)),
        case("TCP of 16 bytes", segment.out(0, 16, SHORT), segment.out(16, None, TAIL)),
        case("TCP of 24 bytes", segment.out(0, 24), segment.out(24, None), flows=1, fragments=1),
        case("TCP before the end of its options", optioned.out(0, 32, SHORT), optioned.out(32, None, TAIL)),
        case("TCP with all its options", optioned.out(0, 40), optioned.out(40, None), flows=1, fragments=1),
        case("TCP with a data offset of 4",
             Datagram(family, TCP, tcp(1000, 443, SYN, bytes(76), offset=4)).out(0, 24, Reason.MALFORMED)),
        case("UDP's header and no more", dns.out(0, 8), dns.out(8, None), flows=1, fragments=1),
        case("nothing but a header", dns.out(0, 0, Reason.MALFORMED, more=True)),
        case("more to come behind half a unit (RFC 8200, 4.5)", dns.out(0, 44, Reason.MALFORMED)),
        case("ICMP's header and no more",
             Datagram(family, family.icmp, icmp(family.echo, payload=bytes(40))).out(0, 8), flows=1, fragments=1),
        case("SCTP before its first chunk", Datagram(family, SCTP, sctp(1, 5000, 0, sctp_init(7))).out(0, 8, SHORT)),
        case("a protocol without ports", Datagram(family, ESP, bytes(48)).out(0, 8), flows=1, fragments=1),
        case("flags that no segment has",
             Datagram(family, TCP, tcp(1000, 443, 0, bytes(76))).out(0, 24, Reason.TCP_FLAGS)),
        case("short, to the VM", Datagram(family, TCP, tcp(5000, 22, SYN, bytes(76)), back=True).into(0, 8, SHORT)),
    ]  # fmt: skip


def of_order(family: Family) -> list[Case]:
    """Which fragments follow which."""
    dns, denied = Datagram(family, UDP, DNS), Datagram(family, UDP, OTHER)
    back = Datagram(family, UDP, udp(9, 5000, bytes(88)), back=True)
    another = dataclasses.replace(dns, identifier=2)
    syn = dataclasses.replace(dns, protocol=TCP)
    return [
        case("two, in order", dns.out(0, 48), dns.out(48, None), flows=1, fragments=1),
        case("two, to the VM", back.into(0, 48), back.into(48, None), flows=1, fragments=1),
        case("three, the last before the middle", dns.out(0, 32), dns.out(64, None), dns.out(32, 64), flows=1, fragments=1),
        case("of twelve", *(dns.out(at, at + 8) for at in range(0, 88, 8)), dns.out(88, None), flows=1, fragments=1),
        case("a tail alone", dns.out(48, None, TAIL)),
        case("a middle alone", dns.out(48, 64, TAIL)),
        case("a tail alone, to the VM", back.into(48, None, TAIL)),
        case("a denied first, then its tail", denied.out(0, 48, Reason.DENIED), denied.out(48, None, TAIL)),
        case("an allowed tail after a denied first",
             denied.out(0, 48, Reason.DENIED), dns.out(48, None, TAIL)),
        case("a tail before its first", dns.out(48, None, TAIL), dns.out(0, 48), dns.out(48, None), flows=1, fragments=1),
        case("another datagram's tail", dns.out(0, 48), another.out(48, None, TAIL), flows=1, fragments=1),
        case("two datagrams at a time",
             dns.out(0, 48), another.out(0, 48), dns.out(48, None), another.out(48, None), flows=1, fragments=2),
        case("the same number the other way",
             dns.out(0, 48), dataclasses.replace(dns, back=True).into(48, None, TAIL), flows=1, fragments=1),
        case("the same number of another protocol", dns.out(0, 48),
             # RFC 8200, 4.5: only IPv4 tells datagrams apart by their protocol too.
             syn.out(48, None, TAIL if family is V4 else Reason.NONE), flows=1, fragments=1),
        case("a first fragment that no flow knows",
             Datagram(family, TCP, tcp(1000, 443, 16, bytes(76))).out(0, 24, Reason.NO_FLOW)),
    ]  # fmt: skip


def of_overlaps(family: Family) -> list[Case]:
    """RFC 1858, RFC 5722: a datagram that contradicts itself is nobody's."""
    segment, dns = Datagram(family, TCP, SYN443), Datagram(family, UDP, DNS)
    forged = dataclasses.replace(segment, payload=SYN80)
    return [
        case("over TCP's flags", segment.out(0, 24), forged.out(8, 40, OVERLAP), segment.out(40, None, OVERLAP), flows=1, fragments=1),
        case("over TCP's last bytes", segment.out(0, 24), forged.out(16, None, OVERLAP), flows=1, fragments=1),
        case("a second first one", segment.out(0, 24), forged.out(0, 24, OVERLAP), segment.out(24, None, OVERLAP), flows=1, fragments=1),
        case("the same first one again", segment.out(0, 24), segment.out(0, 24, OVERLAP), flows=1, fragments=1),
        case("the same tail twice", dns.out(0, 32), dns.out(48, None), dns.out(48, None, OVERLAP), flows=1, fragments=1),
        case("complete, it is forgotten", dns.out(0, 48), dns.out(48, None), dns.out(48, None, Reason.FRAGMENT),
             dns.out(0, 48), dns.out(48, None), flows=1, fragments=1),
        case("complete in any order", dns.out(0, 32), dns.out(48, None), dns.out(32, 48), dns.out(0, 48), flows=1, fragments=1),
        case("beyond the end", dns.out(0, 32), dns.out(40, 48, more=False), dns.out(64, None, OVERLAP), flows=1, fragments=1),
        case("a middle that reaches into the tail",
             dns.out(0, 32), dns.out(64, None), dns.out(32, 72, OVERLAP), dns.out(32, 64, OVERLAP), flows=1, fragments=1),
        case("a tail that begins inside another",
             dns.out(0, 32), dns.out(32, 64), dns.out(56, None, OVERLAP), flows=1, fragments=1),
        case("one byte into another's unit",
             dns.out(0, 32), dns.out(40, None), dns.out(32, 41, OVERLAP, more=False), flows=1, fragments=1),
        case("beyond 65535 bytes", dns.out(0, 32), _far(family, Reason.MALFORMED), flows=1, fragments=1),
        case("another datagram is not concerned",
             dns.out(0, 48), dns.out(0, 48, OVERLAP), dataclasses.replace(dns, identifier=2).out(0, 48), flows=1, fragments=2),
    ]  # fmt: skip


def _far(family: Family, reason: Reason) -> Step:
    """The ping of death (RFC 791, 3.2): a tail that ends where no datagram can."""
    if family is V4:
        return sent(V4.out(UDP, bytes(64), fragment=65528 // 8), reason)
    return sent(V6.out(FRAGMENT, fragment6(UDP, bytes(64), first=65528)), reason)


TINY = Datagram(V4, ICMP, icmp(8, payload=bytes(1473)))
TABLE = [
    *(row for f in FAMILIES for of in (of_first, of_order, of_overlaps) for row in each(f, *of(f))),
    case("a legal tail of one byte (ping -s 1473)", TINY.out(0, 1480), TINY.out(1480, None), flows=1, fragments=1),
    case("IPv6: the same", *(Datagram(V6, V6.icmp, icmp(128, payload=bytes(1441))).out(*ends) for ends in ((0, 1448), (1448, None))),
         flows=1, fragments=1),
    case("do not fragment, and more fragments",
         sent(V4.out(UDP, DNS[:48], fragment=0x6000)), flows=1, fragments=1),
    case("bit 0 of the flags is nobody's", sent(V4.out(UDP, DNS, fragment=0x8000)), flows=1),
]  # fmt: skip


def six(header: bytes) -> bytes:
    return ethernet(MAC, PEER_MAC, IPV6, ipv6(VM6, PEER6, FRAGMENT, header))


OPTIONED = destination_options(UDP, DNS)
IPV6_ONLY = [
    case("an atomic fragment (RFC 6946)", sent(six(fragment6(UDP, DNS))), flows=1),
    case("two with one number", sent(six(fragment6(UDP, DNS))), sent(six(fragment6(UDP, DNS))), flows=1),
    case("an atomic fragment between others of its number",
         sent(six(fragment6(UDP, DNS[:48], more=True))), sent(six(fragment6(UDP, DNS))),
         sent(six(fragment6(UDP, DNS[48:], first=48))), flows=1, fragments=1),
    case("a tail behind an atomic fragment",
         sent(six(fragment6(UDP, DNS))), sent(six(fragment6(UDP, bytes(8), first=96)), Reason.FRAGMENT), flows=1),
    case("an atomic fragment that is denied", sent(six(fragment6(UDP, OTHER)), Reason.DENIED)),
    case("options inside the fragmented part",
         sent(six(fragment6(DESTINATION, OPTIONED[:48], more=True))),
         sent(six(fragment6(DESTINATION, OPTIONED[48:], first=48))), flows=1, fragments=1),
    case("a tail may name another header (RFC 8200, 4.5)",
         sent(six(fragment6(DESTINATION, OPTIONED[:48], more=True))),
         sent(six(fragment6(UDP, OPTIONED[48:], first=48))), flows=1, fragments=1),
    case("options only in the first", sent(six(fragment6(DESTINATION, OPTIONED[:8], more=True)), SHORT),
         sent(six(fragment6(DESTINATION, OPTIONED[8:], first=8)), TAIL)),
    case("half of the options in the first",
         sent(six(fragment6(DESTINATION, destination_options(UDP, DNS, options=bytes(30))[:16], more=True)), SHORT)),
    case("headers in front of the fragment header",
         sent(V6.out(FRAGMENT, fragment6(UDP, DNS[:48], more=True), headers=(HOP_BY_HOP, DESTINATION, ROUTING))),
         sent(V6.out(FRAGMENT, fragment6(UDP, DNS[48:], first=48), headers=(HOP_BY_HOP, DESTINATION, ROUTING))),
         flows=1, fragments=1),
    case("what stands behind a tail's header is not looked at",
         sent(six(fragment6(UDP, DNS[:48], more=True))),
         sent(six(fragment6(UDP, fragment6(UDP, bytes(8)), first=48))), flows=1, fragments=1),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_fragments(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("row", IPV6_ONLY, ids=lambda row: row.says)
def test_ipv6_fragments(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_fragments_are_counted_on_their_flow(stage: Stage, family: Family) -> None:
    gate = stage.set(Setup().world(), PATH)
    dns = Datagram(family, UDP, DNS)
    frames = [dns.piece(0, 32), dns.piece(32, 64), dns.piece(64)]
    for frame in frames:
        assert gate.send(OUT, frame).passed
    (row,) = gate.rows()
    assert (row.packets_out, row.bytes_out, row.packets_in) == (3, sum(map(len, frames)), 0)
    assert (row.protocol, row.port) == (UDP, 53)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_fragments_of_an_answer(stage: Stage, family: Family) -> None:
    gate = stage.set(Setup().world(), PATH)
    answer = Datagram(family, UDP, udp(53, 1000, bytes(88)), back=True)
    assert gate.send(IN, answer.piece(0, 48)).reason is Reason.DENIED
    assert gate.send(OUT, family.out(UDP, udp(1000, 53))).passed
    assert gate.send(IN, answer.piece(0, 48)).passed
    assert gate.send(IN, answer.piece(48)).passed
    (row,) = gate.rows()
    assert (row.packets_out, row.packets_in) == (1, 2)


def test_a_first_fragment_is_remembered_for_a_while(stage: Stage) -> None:
    """The map's own memory of it is made older: 30 seconds are the limit."""
    for age, reason in ((20, Reason.NONE), (31, Reason.FRAGMENT)):
        gate = stage.set(Setup().world(), PATH)
        assert gate.send(OUT, Datagram(V4, UDP, DNS).piece(0, 48)).passed
        _grow_old(gate, age)
        assert gate.send(OUT, Datagram(V4, UDP, DNS).piece(48)).reason is reason, age
    assert gate.send(OUT, Datagram(V4, UDP, DNS).piece(0, 48)).passed, "the number serves another datagram"
    assert gate.send(OUT, Datagram(V4, UDP, DNS).piece(48)).passed


def _grow_old(gate: GateUnderTest, seconds: int) -> None:
    table = gate.object.maps["fragments"]
    keys, values = table.dump()
    values["first_ns"] -= seconds * 1_000_000_000
    table.update(keys, values)


def test_errors_about_a_later_fragment_belong_to_nothing(stage: Stage) -> None:
    gate = stage.set(Setup().world(), PATH)
    for family in FAMILIES:
        assert gate.send(OUT, Datagram(family, UDP, DNS).piece(0, 48)).passed
        assert gate.send(OUT, Datagram(family, UDP, DNS).piece(48)).passed
    first, later = (piece(ipv4(V4.vm, V4.peer, UDP, DNS), *ends) for ends in ((0, 48), (48, None)))
    assert gate.send(IN, V4.into(ICMP, icmp_error(11, 1, first), source=STRANGER)).passed
    assert gate.send(IN, V4.into(ICMP, icmp_error(11, 1, later), source=STRANGER)).reason is Reason.FRAGMENT
    first, later = (piece6(ipv6(VM6, PEER6, UDP, DNS), *ends) for ends in ((0, 48), (48, None)))
    assert gate.send(IN, V6.into(V6.icmp, icmpv6_error(2, 0, first, value=1280), source=V6.stranger)).passed
    error = V6.into(V6.icmp, icmpv6_error(2, 0, later, value=1280), source=V6.stranger)
    assert gate.send(IN, error).reason is Reason.FRAGMENT


def test_more_datagrams_than_are_remembered_harm_none_but_their_own_tails(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for identifier in range(2000):
        assert gate.send(OUT, Datagram(V4, UDP, DNS, identifier).piece(0, 48)).passed
    assert gate.send(OUT, Datagram(V4, UDP, DNS, 1999).piece(48)).passed, "the latest is known"
    assert gate.send(OUT, V4.out(UDP, DNS)).passed
    assert gate.fragments() <= 1024


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_what_is_still_to_be_cut_is_no_fragment(stage: Stage, family: Family) -> None:
    """The cut would number it from 0, and its ports would be those of nothing that was judged."""
    gate = stage.set(Setup().world(), PATH)
    dns = Datagram(family, UDP, DNS)
    assert gate.send(OUT, dns.piece(0, 48), gso_segs=2).reason is Reason.MALFORMED
    assert gate.send(OUT, dns.piece(0, 48)).passed
    assert gate.send(OUT, dns.piece(48), gso_segs=2).reason is Reason.MALFORMED
    assert gate.send(OUT, dns.piece(48)).passed
    assert gate.send(OUT, family.out(UDP, DNS), gso_segs=2).passed


def test_tails_do_not_outlive_what_their_flow_was_judged_by(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    dns = Datagram(V4, UDP, DNS)
    assert gate.send(OUT, dns.piece(0, 48)).passed
    gate.guard(Setup(policies=CLOSED).world(), PATH)
    assert gate.send(OUT, dns.piece(48)).reason is Reason.FRAGMENT


def test_room_for_fragments_comes_back(stage: Stage) -> None:
    """What many vNICs have sent once does not keep others from sending for ever."""
    gate = stage.set(Setup().world(), PATH)
    dns = Datagram(V4, UDP, DNS)
    table = gate.object.maps["fragments"]
    others = np.zeros(table.capacity, table.key)
    others["slot"] = 60
    others["bucket"] = range(table.capacity)
    values = np.zeros(table.capacity, table.value)
    values["first_ns"][::2] = 1  # the others are complete
    table.update(others, values)
    assert gate.send(OUT, dns.piece(0, 48)).passed
    assert gate.send(OUT, dns.piece(48)).reason is Reason.FRAGMENT, "there was no room for its first"
    gate.gates.sweep()
    assert gate.fragments() == 0
    assert gate.send(OUT, dns.piece(0, 48)).passed
    Fragments(table).sweep(time.monotonic_ns())
    assert gate.send(OUT, dns.piece(48)).passed, "it is neither complete nor old"


def test_fragments_with_a_foreign_source_are_no_fragments_of_the_vm(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    assert gate.send(OUT, Datagram(V4, UDP, DNS).piece(0, 48)).passed
    assert gate.send(OUT, V4.out(UDP, bytes(8), fragment=6, source=V4.peer)).reason is Reason.FOREIGN_IP
    assert gate.send(OUT, V4.out(UDP, bytes(8), fragment=6 | MORE, mac=PEER_MAC)).reason is Reason.FOREIGN_MAC
    assert gate.send(OUT, V4.out(UDP, bytes(8), fragment=6, target=STRANGER)).reason is Reason.FRAGMENT
