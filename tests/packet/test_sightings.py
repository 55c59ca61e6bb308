"""Messages that a link needs to work, by kind and direction, and the address that the last was about."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from ipaddress import ip_address

import pytest
from cases import (
    ALL_NODES,
    ALL_ROUTERS,
    CLOSED,
    IN,
    LINK6,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER,
    PEER6,
    PEER_LINK6,
    PEER_MAC,
    STRANGER,
    V4,
    V6,
    VM,
    VM6,
    Setup,
)
from conftest import PROGRAM, GateUnderTest, Stage
from frames import (
    ARP,
    BROADCAST,
    EVERYBODY,
    ICMPV6,
    NOBODY,
    RARP,
    SYN,
    TCP,
    UDP,
    arp,
    dhcp,
    dhcpv6,
    ethernet,
    group_mac,
    icmpv6,
    mld,
    na,
    ns,
    pieces,
    ra,
    redirect,
    rs,
    solicited_node,
    source_link,
    target_link,
    tcp,
    udp,
)

from serai.datapath import testrun
from serai.datapath.sightings import COUNTS
from serai.model.address import pack, unpack
from serai.model.flow_record import Sighting
from serai.model.inventory import VnicId
from serai.model.policy import Direction
from serai.model.reasons import Reason
from serai.model.tenancy import Mode

NOTHING = "::"
SERVERS6 = "ff02::1:2"


@dataclasses.dataclass(frozen=True)
class Seen:
    kind: Sighting
    direction: Direction
    address: str
    packets: int = 1


def seen(gate: GateUnderTest) -> list[Seen]:
    counts = gate.gates.sightings.counts()
    assert counts.dtype == COUNTS
    return [
        Seen(
            Sighting(int(row["kind"])),
            (OUT, IN)[int(row["direction"])],
            NOTHING if row["address"].tobytes() == bytes(16) else str(unpack(row["address"].tobytes())),
            int(row["packets"]),
        )
        for row in counts
    ]


def out6(message: bytes, *, source: str = VM6, target: str = ALL_NODES) -> bytes:
    return V6.out(ICMPV6, message, source=source, target=target, to=group_mac(target), hops=255)


def into6(message: bytes, *, source: str = PEER_LINK6, target: str = ALL_NODES) -> bytes:
    return V6.into(ICMPV6, message, source=source, target=target, to=group_mac(target), hops=255)


def options(message: bytes, *more: bytes) -> bytes:
    """A DHCP message with other options: what stands behind the cookie."""
    return message[:240] + b"".join(more)


def option(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def asks(message: bytes, *, source: str = NOBODY) -> bytes:
    return V4.out(UDP, udp(68, 67, message), source=source, target=EVERYBODY, to=BROADCAST)


def asked(message: bytes) -> bytes:
    """A client's question that reaches the VM, as all on the link."""
    return V4.into(UDP, udp(68, 67, message), source=NOBODY, target=EVERYBODY, to=BROADCAST)


def serves(message: bytes) -> bytes:
    return V4.out(UDP, udp(67, 68, message), target=EVERYBODY, to=BROADCAST)


def answers(message: bytes) -> bytes:
    return V4.into(UDP, udp(67, 68, message), target=EVERYBODY, to=BROADCAST)


def wanting(kind: int, mac: str, address: str, *, yours: str = NOBODY) -> bytes:
    """A client's message that asks for an address by the option, which stands behind others."""
    return options(
        dhcp(1, mac, yours=yours),
        option(61, b"\1" + bytes(6)), b"\0\0", option(50, ip_address(address).packed), option(53, bytes((kind,))), b"\xff",
    )  # fmt: skip


def has(kind: int, mac: str, address: str) -> bytes:
    """A client's message that names the address that it has."""
    message = dhcp(1, mac, kind=kind)
    return message[:12] + ip_address(address).packed + message[16:]


LINK = [
    (Sighting.ARP_REQUEST, PEER, OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER))),
    (Sighting.ARP_REQUEST, VM, IN, ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM))),
    (Sighting.ARP_REPLY, VM, OUT, ethernet(MAC, PEER_MAC, ARP, arp(2, MAC, VM, PEER, PEER_MAC))),
    (Sighting.ARP_REPLY, PEER, IN, ethernet(PEER_MAC, MAC, ARP, arp(2, PEER_MAC, PEER, VM, MAC))),
    (Sighting.NEIGHBOR_SOLICITATION, PEER6, OUT, out6(ns(PEER6, source_link(MAC)), target=solicited_node(PEER6))),
    (Sighting.NEIGHBOR_SOLICITATION, VM6, IN, into6(ns(VM6, source_link(PEER_MAC)), target=solicited_node(VM6))),
    (Sighting.NEIGHBOR_ADVERTISEMENT, VM6, OUT, out6(na(VM6, target_link(MAC)))),
    (Sighting.NEIGHBOR_ADVERTISEMENT, PEER6, IN, into6(na(PEER6, target_link(PEER_MAC)))),
    (Sighting.ROUTER_SOLICITATION, NOTHING, OUT, out6(rs(source_link(MAC)), source=LINK6, target=ALL_ROUTERS)),
    (Sighting.ROUTER_SOLICITATION, NOTHING, IN, into6(rs(), target=ALL_ROUTERS)),
    (Sighting.ROUTER_ADVERTISEMENT, LINK6, OUT, out6(ra(), source=LINK6)),
    (Sighting.ROUTER_ADVERTISEMENT, PEER_LINK6, IN, into6(ra())),
]
OFFERED = "10.0.0.50"
CLIENTS = {
    Sighting.DHCP_DISCOVER: 1, Sighting.DHCP_REQUEST: 3, Sighting.DHCP_DECLINE: 4, Sighting.DHCP_RELEASE: 7,
    Sighting.DHCP_INFORM: 8,
}  # fmt: skip
SERVERS = {Sighting.DHCP_OFFER: 2, Sighting.DHCP_ACK: 5, Sighting.DHCP_NAK: 6}
LEASES = [
    *((kind, NOTHING, OUT, asks(dhcp(1, MAC, kind=number))) for kind, number in CLIENTS.items()),
    *((kind, OFFERED, OUT, asks(wanting(number, MAC, OFFERED))) for kind, number in CLIENTS.items()),
    *((kind, VM, OUT, asks(has(number, MAC, VM))) for kind, number in CLIENTS.items()),
    *((kind, OFFERED, IN, asked(wanting(number, PEER_MAC, OFFERED))) for kind, number in CLIENTS.items()),
    *((kind, OFFERED, IN, answers(dhcp(2, MAC, kind=n, yours=OFFERED))) for kind, n in SERVERS.items()),
    *((kind, OFFERED, OUT, serves(dhcp(2, PEER_MAC, kind=n, yours=OFFERED))) for kind, n in SERVERS.items()),
    (Sighting.DHCP_NAK, NOTHING, IN, answers(dhcp(2, MAC, kind=6))),
    *(
        (Sighting.DHCPV6_ASKED, NOTHING, direction, frame)
        for kind in (1, 3, 4, 5, 6, 8, 9, 11)
        for direction, frame in (
            (OUT, V6.out(UDP, udp(546, 547, dhcpv6(kind, MAC)), source=LINK6, target=SERVERS6, to=group_mac(SERVERS6))),
            (IN, V6.into(UDP, udp(546, 547, dhcpv6(kind, MAC)), source=PEER_LINK6, target=SERVERS6, to=group_mac(SERVERS6))),
        )
    ),
    *(
        (Sighting.DHCPV6_ANSWERED, NOTHING, direction, frame)
        for kind in (2, 7, 10)
        for direction, frame in (
            (OUT, V6.out(UDP, udp(547, 546, dhcpv6(kind, MAC)), source=LINK6, target=PEER_LINK6)),
            (IN, V6.into(UDP, udp(547, 546, dhcpv6(kind, MAC)), source=PEER_LINK6, target=LINK6)),
        )
    ),
]  # fmt: skip
TABLE = LINK + LEASES

BROKEN = dhcp(1, MAC)
NONE = [
    ("a TCP segment", OUT, V4.out(TCP, tcp(1, 443, SYN))),
    ("ARP of another kind", OUT, ethernet(MAC, BROADCAST, ARP, arp(8, MAC, VM, PEER))),
    ("RARP", OUT, ethernet(MAC, BROADCAST, RARP, arp(3, MAC, NOBODY, NOBODY, MAC))),
    ("ARP that is too short", OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER)[:20])),
    ("a frame for another", IN, ethernet(PEER_MAC, "52:54:00:00:00:09", ARP, arp(2, PEER_MAC, PEER, VM))),
    ("a foreign frame", OUT, ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM))),
    ("NS that is too short", OUT, out6(icmpv6(135, 0, bytes(19)))),
    ("a listener's report", OUT, out6(mld(131, "ff02::1:3"), source=LINK6)),
    ("a redirect", IN, into6(redirect(PEER_LINK6, "2001:db8:9::1"))),
    ("an echo", OUT, V6.out(ICMPV6, icmpv6(128, 0, bytes(4)))),
    ("BOOTP without options", OUT, asks(BROKEN[:236])),
    ("another cookie", OUT, asks(BROKEN[:236] + b"\x63\x82\x53\x64" + BROKEN[240:])),
    ("DHCP without a type", OUT, asks(options(BROKEN, b"\xff"))),
    ("a type behind the end", OUT, asks(options(BROKEN, b"\xff", option(53, b"\1")))),
    ("a type of two bytes", OUT, asks(options(BROKEN, option(53, b"\1\1"), b"\xff"))),
    ("type 0", OUT, asks(dhcp(1, MAC, kind=0))),
    ("type 9, which is no client's and no server's", OUT, asks(dhcp(1, MAC, kind=9))),
    ("a type that the datagram ends in", OUT, asks(options(BROKEN, bytes((53, 1))))),
    ("a type behind forty bytes of padding", OUT, asks(options(BROKEN, bytes(40), option(53, b"\1"), b"\xff"))),
    ("DHCP from another port", OUT, V4.out(UDP, udp(67, 1068, dhcp(2, PEER_MAC)))),
    ("a relay's DHCPv6", OUT, V6.out(UDP, udp(547, 547, dhcpv6(12, MAC)))),
    ("DHCPv6 of no kind", OUT, V6.out(UDP, udp(546, 547, dhcpv6(0, MAC)), source=LINK6, target=SERVERS6, to=group_mac(SERVERS6))),
]  # fmt: skip


@pytest.mark.parametrize(
    "setup", [Setup(policies=OPEN), Setup(policies=CLOSED, mode=Mode.OBSERVE)], ids=["open", "observed"]
)
@pytest.mark.parametrize(
    ("kind", "address", "direction", "frame"), TABLE, ids=[f"{k.name}-{a}-{d.value}" for k, a, d, _ in TABLE]
)  # fmt: skip
def test_each_kind_is_counted(  # noqa: PLR0917  # a row
    stage: Stage, setup: Setup, kind: Sighting, address: str, direction: Direction, frame: bytes
) -> None:
    gate = stage.set(setup.world(), PATH)
    for packets in (1, 2):
        gate.send(direction, frame)
        assert seen(gate) == [Seen(kind, direction, address, packets)]


def test_the_table_has_every_kind_in_both_directions() -> None:
    assert {(kind, direction) for kind, _, direction, _ in TABLE} == {(k, d) for k in Sighting for d in (OUT, IN)}


@pytest.mark.parametrize(("direction", "frame"), [row[1:] for row in NONE], ids=[row[0] for row in NONE])
def test_what_is_none_of_them_is_not_counted(stage: Stage, direction: Direction, frame: bytes) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    gate.send(direction, frame)
    assert seen(gate) == []


def test_what_is_dropped_for_what_it_says_is_counted(stage: Stage) -> None:
    gate = stage.set(Setup(policies=CLOSED).world(), PATH)
    for frame, reason in (
        (ethernet(MAC, BROADCAST, ARP, arp(2, MAC, PEER, PEER)), Reason.FOREIGN_ARP),
        (out6(na(PEER6, target_link(MAC))), Reason.FOREIGN_ND),
        (out6(ra(), source=LINK6), Reason.ROUTER),
        (serves(dhcp(2, PEER_MAC, yours=STRANGER)), Reason.DHCP_SERVER),
    ):
        assert gate.send(OUT, frame).reason is reason
    assert {(row.kind, row.address) for row in seen(gate)} == {
        (Sighting.ARP_REPLY, PEER),
        (Sighting.NEIGHBOR_ADVERTISEMENT, PEER6),
        (Sighting.ROUTER_ADVERTISEMENT, LINK6),
        (Sighting.DHCP_OFFER, STRANGER),
    }


def test_the_last_address_stands(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for target in (PEER, STRANGER):
        gate.send(OUT, ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, target)))
    assert seen(gate) == [Seen(Sighting.ARP_REQUEST, OUT, STRANGER, 2)]


def test_a_message_in_pieces_is_read_no_further_than_its_first(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    whole = V4.packet(VM, EVERYBODY, UDP, udp(68, 67, wanting(3, MAC, OFFERED)))
    for piece in pieces(whole, 240):
        gate.send(OUT, V4.frame(piece, source=MAC, target=BROADCAST))
    assert seen(gate) == []


def test_many_at_once_are_all_counted(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    repeat = 1000
    for direction, frame in ((OUT, LINK[0][3]), (IN, LINK[1][3])):
        testrun.run(gate.object.programs[PROGRAM[direction]], frame, repeat=repeat)
    assert {row.packets for row in seen(gate)} == {repeat}


def test_vnics_are_forgotten_one_by_one(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for _, _, direction, frame in TABLE:
        gate.send(direction, frame)
    kernel, sightings = gate.object.maps["sightings"], gate.gates.sightings
    keys, values = kernel.dump()
    mine = VnicId(int(keys["vnic"][0]))
    assert (keys["vnic"] == mine).all()
    assert len(keys) == 2 * len(Sighting)
    others = keys.copy()
    others["vnic"] = 7
    kernel.update(others, values)
    forgotten: Collection[VnicId]
    for forgotten, left in (((), {7, mine}), ((VnicId(8),), {7, mine}), ({mine}, {7}), ({mine, VnicId(7)}, set())):
        sightings.forget(forgotten)
        assert set(sightings.counts()["vnic"].tolist()) == left


def test_an_address_is_in_the_form_of_records(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    gate.send(OUT, LINK[0][3])
    (row,) = gate.gates.sightings.counts()
    assert row["address"].tobytes() == pack(ip_address(PEER))
