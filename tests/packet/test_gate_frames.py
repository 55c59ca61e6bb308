"""What carries a packet: MAC addresses, tags, lengths in the place of types, other ethertypes, ARP and RARP."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from cases import (
    ALL_NODES,
    CLOSED,
    FAMILIES,
    IN,
    LINK6,
    MAC,
    OPEN,
    OTHER_MAC,
    OUT,
    PEER,
    PEER6,
    PEER_LINK6,
    PEER_MAC,
    STRANGER,
    V4,
    V6,
    VM,
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
    under,
)
from conftest import Stage
from frames import (
    ARP,
    BROADCAST,
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    NOBODY,
    QINQ,
    RARP,
    SYN,
    TCP,
    UDP,
    VLAN,
    arp,
    ethernet,
    group_mac,
    icmp,
    llc,
    na,
    ns,
    ra,
    snap,
    source_link,
    tagged,
    target_link,
    tcp,
    udp,
)

from serai.model.inventory import AllowedAddress, Mac, PortSecurity
from serai.model.reasons import Reason

PROFINET, EXPERIMENT, LLDP, MPLS = 0x8892, 0x88B5, 0x88CC, 0x8847


def of_addresses(family: Family) -> list[Case]:
    """MAC and IP addresses that are not the VM's, and frames that are not for it."""
    syn, answer = (TCP, tcp(1000, 443, SYN)), (TCP, tcp(5000, 22, SYN))
    other = PEER6 if family is V6 else PEER
    return [
        case("own addresses", sent(family.out(*syn)), flows=1),
        case("foreign source MAC", sent(family.out(*syn, mac=PEER_MAC), Reason.FOREIGN_MAC)),
        case("broadcast as source MAC", sent(family.out(*syn, mac=BROADCAST), Reason.FOREIGN_MAC)),
        case("foreign source address", sent(family.out(*syn, source=other), Reason.FOREIGN_IP)),
        case("stranger's source address", sent(family.out(*syn, source=family.stranger), Reason.FOREIGN_IP)),
        case("both foreign", sent(family.out(*syn, mac=PEER_MAC, source=other), Reason.FOREIGN_MAC)),
        case("for the VM", came(family.into(*answer)), flows=1),
        case("for another station", came(family.into(*answer, to=OTHER_MAC), Reason.NOT_ADDRESSED)),
        case("another's address in a frame for the VM",
             came(family.into(*answer, target=family.stranger), Reason.NOT_ADDRESSED)),
        case("TCP to the VM in a broadcast frame", came(family.into(*answer, to=BROADCAST)), flows=1),
        case("UDP to a neighbor's address in a broadcast frame",
             came(family.into(UDP, udp(1, 5000), target=other, to=BROADCAST), Reason.NOT_ADDRESSED)),
    ]  # fmt: skip


ADDRESSES = [
    *(row for family in FAMILIES for row in each(family, *of_addresses(family))),
    case("a source address of no one", sent(V4.out(TCP, tcp(1000, 443, SYN), source=NOBODY), Reason.FOREIGN_IP)),
    case("a source address of this host", sent(V4.out(TCP, tcp(1000, 443, SYN), source="127.0.0.1"), Reason.FOREIGN_IP)),
    case("a group as source", sent(V4.out(TCP, tcp(1000, 443, SYN), source="224.0.0.1"), Reason.FOREIGN_IP)),
    case("IPv6: ::", sent(V6.out(TCP, tcp(1000, 443, SYN), source="::"), Reason.FOREIGN_IP)),
    case("IPv6: ::1", sent(V6.out(TCP, tcp(1000, 443, SYN), source="::1"), Reason.FOREIGN_IP)),
    case("IPv6: a group as source", sent(V6.out(TCP, tcp(1000, 443, SYN), source=ALL_NODES), Reason.FOREIGN_IP)),
    case("IPv6: another's link-local address", sent(V6.out(TCP, tcp(1, 443, SYN), source=PEER_LINK6), Reason.FOREIGN_IP)),
    case("IPv6: its own link-local address", sent(V6.out(TCP, tcp(1, 443, SYN), source=LINK6, target=PEER_LINK6)), flows=1),
    case("IPv6: its own IPv4 address in disguise",
         sent(V6.out(TCP, tcp(1, 443, SYN), source=f"::ffff:{VM}"), Reason.FOREIGN_IP)),
    case("IPv6: the VM's IPv4 address in disguise",
         came(V6.into(TCP, tcp(1, 22, SYN), target=f"::ffff:{VM}"), Reason.NOT_ADDRESSED)),
    case("IPv6: to the peer's IPv4 address in disguise",
         sent(V6.out(TCP, tcp(1, 443, SYN), target=f"::ffff:{PEER}"), Reason.MALFORMED)),
    case("IPv6: the peer's IPv4 address in disguise",
         came(V6.into(TCP, tcp(1, 22, SYN), source=f"::ffff:{PEER}"), Reason.MALFORMED)),
    case("UDP broadcast to the network",
         came(V4.into(UDP, udp(1, 5000), target="10.0.0.255", to=BROADCAST)), flows=1),
    case("TCP broadcast to the network",
         came(V4.into(TCP, tcp(1, 22, SYN), target="10.0.0.255", to=BROADCAST), Reason.NOT_ADDRESSED)),
    case("IPv6: UDP to a group",
         came(V6.into(UDP, udp(1, 5000), target="ff02::fb", to=group_mac("ff02::fb"))), flows=1),
    case("IPv6: TCP to a group",
         came(V6.into(TCP, tcp(1, 22, SYN), target="ff02::fb", to=group_mac("ff02::fb")), Reason.NOT_ADDRESSED)),
    case("IPv6: TCP to a group behind options",
         came(V6.into(TCP, tcp(1, 22, SYN), target="ff02::fb", to=group_mac("ff02::fb"), headers=(HOP_BY_HOP,)),
              Reason.NOT_ADDRESSED)),
]  # fmt: skip


VRRP_MAC = "00:00:5e:00:01:05"
VIRTUAL, VIRTUAL6, BEHIND, BEHIND6 = "10.0.0.100", "2001:db8::100", "192.168.7.7", "2001:db8:f00::7"


def allowed(prefix: str, address: str | None = None) -> AllowedAddress:
    return AllowedAddress(prefix=ip_network(prefix), mac=Mac(address) if address else None)


ROUTER_AND_VRRP = PortSecurity(
    allowed=(
        allowed("192.168.0.0/16"), allowed("2001:db8:f00::/48"),
        allowed(f"{VIRTUAL}/32", VRRP_MAC), allowed(f"{VIRTUAL6}/128", VRRP_MAC),
    )
)  # fmt: skip


def of_allowed(family: Family) -> list[Case]:
    """A VRRP address with its own MAC (RFC 5798), and the prefix behind a router."""
    syn, answer = (TCP, tcp(1000, 443, SYN)), (TCP, tcp(5000, 22, SYN))
    virtual, beyond = (VIRTUAL6, BEHIND6) if family is V6 else (VIRTUAL, BEHIND)
    return [
        case("virtual address with its MAC", sent(family.out(*syn, source=virtual, mac=VRRP_MAC)), flows=1),
        case("virtual address with the VM's MAC", sent(family.out(*syn, source=virtual), Reason.FOREIGN_IP)),
        case("own address with the virtual MAC", sent(family.out(*syn, mac=VRRP_MAC), Reason.FOREIGN_IP)),
        case("from behind the router", sent(family.out(*syn, source=beyond)), flows=1),
        case("from behind the router with the virtual MAC",
             sent(family.out(*syn, source=beyond, mac=VRRP_MAC), Reason.FOREIGN_IP)),
        case("from neither", sent(family.out(*syn, source=family.stranger), Reason.FOREIGN_IP)),
        case("to the virtual address", came(family.into(*answer, target=virtual, to=VRRP_MAC)), flows=1),
        case("to behind the router", came(family.into(*answer, target=beyond)), flows=1),
        case("to another virtual MAC",
             came(family.into(*answer, target=virtual, to="00:00:5e:00:01:06"), Reason.NOT_ADDRESSED)),
    ]  # fmt: skip


def announced(operation: int, sender_mac: str, sender: str, *, mac: str = MAC) -> bytes:
    """An ARP packet of the VM to everybody."""
    return ethernet(mac, BROADCAST, ARP, arp(operation, sender_mac, sender, sender))


def advertised(target: str, link: str, *, mac: str = MAC, source: str = VM6) -> bytes:
    """A neighbor advertisement of the VM to everybody."""
    return V6.out(ICMPV6, na(target, target_link(link), flags=0x20), source=source, mac=mac, target=ALL_NODES,
                  to=group_mac(ALL_NODES), hops=255)  # fmt: skip


ALLOWED = under(
    Setup(security=ROUTER_AND_VRRP),
    [
        *(row for family in FAMILIES for row in each(family, *of_allowed(family))),
        case("ARP for the virtual address", sent(announced(1, VRRP_MAC, VIRTUAL, mac=VRRP_MAC))),
        case("ARP for the virtual address with the VM's MAC", sent(announced(1, MAC, VIRTUAL), Reason.FOREIGN_ARP)),
        case(
            "ARP for its own address with the virtual MAC",
            sent(announced(1, VRRP_MAC, VM, mac=VRRP_MAC), Reason.FOREIGN_ARP),
        ),
        case("ARP with the virtual MAC in the VM's frame", sent(announced(2, VRRP_MAC, VIRTUAL), Reason.FOREIGN_ARP)),
        case("ARP for an address behind the router", sent(announced(2, MAC, BEHIND))),
        case("NA for the virtual address", sent(advertised(VIRTUAL6, VRRP_MAC, mac=VRRP_MAC, source=VIRTUAL6))),
        case("NA for the virtual address with the VM's MAC", sent(advertised(VIRTUAL6, MAC), Reason.FOREIGN_ND)),
        case("NA with the virtual MAC in the VM's frame", sent(advertised(VM6, VRRP_MAC), Reason.FOREIGN_ND)),
        case("NA for an address behind the router", sent(advertised(BEHIND6, MAC))),
    ],
)


SPOKEN = {
    "RA": V6.out(ICMPV6, ra(source_link(MAC)), source=LINK6, target=ALL_NODES, hops=255),
    "NA": V6.out(ICMPV6, na(VM6, target_link(MAC)), hops=255),
    "ARP": ethernet(MAC, BROADCAST, ARP, arp(1, MAC, VM, PEER)),
    "ICMP": V4.out(V4.icmp, icmp(8)),
}  # fmt: skip
"""All but the first would pass as they are."""
STACKS = {
    **{f"priority tag x{count}": ((VLAN, 0),) * count for count in range(1, 6)},
    "VLAN 5": ((VLAN, 5),),
    "802.1ad": ((QINQ, 5),),
    "802.1ad with a priority tag inside": ((QINQ, 5), (VLAN, 0)),
    "802.1ad priority tag": ((QINQ, 0),),
}
TAGGED = [
    case(f"{stack}, {what} inside", step(tagged(frame, *tags), Reason.VLAN))
    for stack, tags in STACKS.items()
    for what, frame in SPOKEN.items()
    for step in (sent, came)
]
LENGTHS = {"its length": None, "length 0": 0, "length 0x5ff": 0x5FF}
UNTYPED = [
    case(f"{form.__name__.upper()}, {what} inside, {says}",
         sent(wrap(MAC, PEER_MAC, frame, length), Reason.LLC), came(wrap(PEER_MAC, MAC, frame, length), Reason.LLC))
    for form, wrap in ((llc, lambda s, t, f, n: llc(s, t, f[14:], length=n)),
                       (snap, lambda s, t, f, n: snap(s, t, int.from_bytes(f[12:14], "big"), f[14:], length=n)))
    for what, frame in SPOKEN.items()
    for says, length in LENGTHS.items()
]  # fmt: skip


def raw(ethertype: int, *, source: str = MAC, target: str = PEER_MAC) -> bytes:
    return ethernet(source, target, ethertype, bytes(60))


ETHERTYPES = [
    case("the first number that is a type", sent(raw(0x600), Reason.ETHERTYPE)),
    case("LLDP", sent(raw(LLDP), Reason.ETHERTYPE), came(raw(LLDP, source=PEER_MAC, target=MAC), Reason.ETHERTYPE)),
    case("MPLS", sent(raw(MPLS), Reason.ETHERTYPE)),
    case("foreign MAC and foreign type", sent(raw(LLDP, source=PEER_MAC), Reason.FOREIGN_MAC)),
    case("foreign MAC and a length", sent(raw(60, source=PEER_MAC), Reason.FOREIGN_MAC)),
    case("a tag comes before all else", sent(tagged(raw(LLDP, source=PEER_MAC), (VLAN, 1)), Reason.VLAN)),
    case("for another station", came(raw(LLDP, source=PEER_MAC, target=OTHER_MAC), Reason.NOT_ADDRESSED)),
    *under(
        Setup(security=PortSecurity(ethertypes=(PROFINET, EXPERIMENT)), policies=CLOSED),
        [
            case("allowed", sent(raw(PROFINET)), sent(raw(EXPERIMENT)), came(raw(PROFINET, source=PEER_MAC, target=MAC))),
            case("allowed, to everybody", came(raw(PROFINET, source=PEER_MAC, target=BROADCAST))),
            case("allowed, with a foreign MAC", sent(raw(PROFINET, source=PEER_MAC), Reason.FOREIGN_MAC)),
            case("allowed, for another station", came(raw(PROFINET, source=PEER_MAC, target=OTHER_MAC), Reason.NOT_ADDRESSED)),
            case("allowed, in a tag", sent(tagged(raw(PROFINET), (VLAN, 0)), Reason.VLAN)),
            case("another one", sent(raw(LLDP), Reason.ETHERTYPE)),
        ],
    ),
]  # fmt: skip


def asked(sender_mac: str, target_mac: str, *, operation: int = 3, mac: str = MAC) -> Step:
    """A RARP packet of the VM, and what it is dropped for where it is not about the VM."""
    own = (operation, mac, sender_mac, target_mac) == (3, MAC, MAC, MAC)
    frame = ethernet(mac, BROADCAST, RARP, arp(operation, sender_mac, NOBODY, NOBODY, target_mac))
    return sent(frame, Reason.NONE if own else Reason.FOREIGN_MAC if mac != MAC else Reason.FOREIGN_ARP)


def heard(*arguments: object, **more: object) -> bytes:
    return ethernet(MAC, BROADCAST, ARP, arp(*arguments, **more))  # type: ignore[arg-type]


RESOLVING = [
    case("ARP request", sent(heard(1, MAC, VM, PEER))),
    case("ARP reply", sent(ethernet(MAC, PEER_MAC, ARP, arp(2, MAC, VM, PEER, PEER_MAC)))),
    case("ARP probe (RFC 5227)", sent(heard(1, MAC, NOBODY, VM))),
    case("gratuitous ARP after a migration", sent(heard(1, MAC, VM, VM)), sent(heard(2, MAC, VM, VM))),
    *(
        row
        for operation, name in ((1, "request"), (2, "reply"))
        for row in (
            case(f"ARP {name} with a foreign sender", sent(heard(operation, MAC, PEER, VM), Reason.FOREIGN_ARP)),
            case(f"ARP {name} with a stranger as sender", sent(heard(operation, MAC, STRANGER, VM), Reason.FOREIGN_ARP)),
            case(f"ARP {name} with a foreign hardware address", sent(heard(operation, PEER_MAC, VM, PEER), Reason.FOREIGN_ARP)),
            case(f"ARP {name}, both foreign", sent(heard(operation, PEER_MAC, PEER, VM), Reason.FOREIGN_ARP)),
            case(f"ARP {name} with a group as hardware address", sent(heard(operation, BROADCAST, VM, PEER), Reason.FOREIGN_ARP)),
            case(f"ARP {name} in a foreign frame",
                 sent(ethernet(PEER_MAC, BROADCAST, ARP, arp(operation, MAC, VM, PEER)), Reason.FOREIGN_MAC)),
        )
    ),
    case("gratuitous ARP for another", sent(heard(1, MAC, PEER, PEER), Reason.FOREIGN_ARP)),
    case("probe with a foreign hardware address", sent(heard(1, PEER_MAC, NOBODY, VM), Reason.FOREIGN_ARP)),
    case("ARP for hardware that is no Ethernet", sent(heard(1, MAC, VM, PEER, kinds=(6, IPV4)), Reason.MALFORMED)),
    case("ARP for a protocol that is not IPv4", sent(heard(1, MAC, VM, PEER, kinds=(1, 0x86DD)), Reason.MALFORMED)),
    case("ARP for addresses of 8 bytes", sent(heard(1, MAC, VM, PEER, lengths=(8, 4)), Reason.MALFORMED)),
    case("ARP for addresses of 16 bytes", sent(heard(1, MAC, VM, PEER, lengths=(6, 16)), Reason.MALFORMED)),
    case("ARP cut short", sent(heard(1, MAC, VM, PEER)[: 14 + 27], Reason.MALFORMED)),
    case("ARP cut short, to the VM", came(ethernet(PEER_MAC, MAC, ARP, arp(2, PEER_MAC, PEER, VM)[:27]), Reason.MALFORMED)),
    case("ARP to the VM", came(ethernet(PEER_MAC, MAC, ARP, arp(2, PEER_MAC, PEER, VM)))),
    case("ARP to everybody", came(ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM)))),
    case("ARP to another", came(ethernet(PEER_MAC, OTHER_MAC, ARP, arp(2, PEER_MAC, PEER, VM)), Reason.NOT_ADDRESSED)),
    case("RARP after a migration", asked(MAC, MAC)),
    case("RARP about another", asked(MAC, PEER_MAC)),
    case("RARP by another", asked(PEER_MAC, PEER_MAC)),
    case("RARP by another in its frame", asked(PEER_MAC, PEER_MAC, mac=PEER_MAC)),
    case("RARP that answers", asked(MAC, MAC, operation=4)),
    case("RARP in the form of ARP", asked(MAC, MAC, operation=1)),
    case("NS asks for a neighbor",
         sent(V6.out(ICMPV6, ns(PEER6, source_link(MAC)), to=group_mac(PEER6), hops=255))),
]  # fmt: skip

TABLE = [*ADDRESSES, *ALLOWED, *TAGGED, *UNTYPED, *ETHERTYPES, *RESOLVING]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_frame(stage: Stage, row: Case) -> None:
    play(stage, row)


FORGED = [
    row for row in TABLE if row.setup == Setup() and row.steps[0].reason.name.startswith(("FOREIGN", "VLAN", "LLC"))
]


@pytest.mark.parametrize("row", FORGED, ids=lambda row: row.says)
def test_no_rule_and_no_flow_excuses_it(stage: Stage, row: Case) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), "/acme/shop:vm")
    for family in FAMILIES:
        assert gate.send(OUT, family.out(TCP, tcp(1000, 443, SYN))).passed
        assert gate.send(IN, family.into(TCP, tcp(5000, 22, SYN))).passed
    for step in row.steps:
        assert gate.send(step.direction, step.frame).reason is step.reason
    assert gate.flows.count() == 4
