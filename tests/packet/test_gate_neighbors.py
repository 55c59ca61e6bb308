"""Neighbor discovery and multicast listeners: who may speak for whom, and what no header in front may hide."""

from __future__ import annotations

import pytest
from cases import (
    ALL_NODES,
    ALL_ROUTERS,
    CLOSED,
    FAMILIES,
    IN,
    LINK6,
    MAC,
    OPEN,
    OTHER_MAC,
    OUT,
    PATH,
    PEER6,
    PEER_LINK6,
    PEER_MAC,
    STANDARD,
    UNSPECIFIED6,
    V4,
    V6,
    VM,
    VM6,
    Case,
    Setup,
    came,
    case,
    play,
    sent,
    under,
)
from conftest import Stage
from frames import (
    AH,
    DESTINATION,
    FRAGMENT,
    HOP_BY_HOP,
    ICMPV6,
    IPV6,
    ROUTING,
    SYN,
    TCP,
    behind,
    destination_options,
    ethernet,
    fragment6,
    group_mac,
    icmpv6,
    ipv6,
    mld,
    mld2,
    na,
    nd_option,
    ns,
    piece6,
    prefix_information,
    ra,
    redirect,
    rs,
    solicited_node,
    source_link,
    target_link,
    tcp,
)

from serai.model.inventory import PortSecurity, Serves
from serai.model.reasons import Reason

GROUP = "ff02::1:3"
SOLICITED, PEER_SOLICITED = solicited_node(VM6), solicited_node(PEER6)


def out(
    message: bytes, *, source: str = VM6, target: str = ALL_NODES, hops: int = 255, headers: tuple[int, ...] = ()
) -> bytes:
    return ethernet(MAC, group_mac(target), IPV6, ipv6(source, target, *behind(headers, ICMPV6, message), hops=hops))


def into(
    message: bytes, *, source: str = PEER_LINK6, target: str = ALL_NODES, hops: int = 255, headers: tuple[int, ...] = ()
) -> bytes:
    return ethernet(
        PEER_MAC, group_mac(target), IPV6, ipv6(source, target, *behind(headers, ICMPV6, message), hops=hops)
    )


HONEST = [
    case("NS for a neighbor", sent(out(ns(PEER6, source_link(MAC)), target=PEER_SOLICITED))),
    case("NS for a neighbor without a link-layer address", sent(out(ns(PEER6), target=PEER6))),
    case("NS from the link-local address", sent(out(ns(PEER6, source_link(MAC)), source=LINK6, target=PEER_SOLICITED))),
    case("NA for its address", sent(out(na(VM6, target_link(MAC))))),
    case("NA for its link-local address", sent(out(na(LINK6, target_link(MAC)), source=LINK6))),
    case("NA without a link-layer address", sent(out(na(VM6), target=PEER6))),
    case("RS", sent(out(rs(source_link(MAC)), source=LINK6, target=ALL_ROUTERS))),
    case("RS before it has an address", sent(out(rs(), source=UNSPECIFIED6, target=ALL_ROUTERS))),
    case("DAD for its address", sent(out(ns(VM6), source=UNSPECIFIED6, target=SOLICITED))),
    case("DAD for its link-local address", sent(out(ns(LINK6), source=UNSPECIFIED6, target=solicited_node(LINK6)))),
    case("DAD with a nonce (RFC 7527)", sent(out(ns(VM6, nd_option(14, b"nonce!")), source=UNSPECIFIED6, target=SOLICITED))),
    case("eight options", sent(out(ns(PEER6, *[nd_option(14, b"nonce!")] * 7, source_link(MAC)), target=PEER6))),
    case("MLDv2 report", sent(out(mld2(GROUP), source=LINK6, target="ff02::16", hops=1, headers=(HOP_BY_HOP,)))),
    case("MLDv2 report before it has an address",
         sent(out(mld2(GROUP), source=UNSPECIFIED6, target="ff02::16", hops=1, headers=(HOP_BY_HOP,)))),
    case("MLD report", sent(out(mld(131, GROUP), source=LINK6, target=GROUP, hops=1, headers=(HOP_BY_HOP,)))),
    case("MLD report before it has an address",
         sent(out(mld(131, GROUP), source=UNSPECIFIED6, target=GROUP, hops=1, headers=(HOP_BY_HOP,)))),
    case("MLD done", sent(out(mld(132, GROUP), source=LINK6, target=ALL_ROUTERS, hops=1, headers=(HOP_BY_HOP,)))),
    case("MLD query to the VM", came(into(mld(130, "::"), hops=1, headers=(HOP_BY_HOP,)))),
    case("RA to the VM", came(into(ra(source_link(PEER_MAC), prefix_information("2001:db8::"))))),
    case("redirect to the VM", came(V6.into(ICMPV6, redirect(PEER_LINK6, "2001:db8:9::1"), source=PEER_LINK6, hops=255))),
    case("NS to the VM", came(into(ns(VM6, source_link(PEER_MAC)), source=PEER6, target=SOLICITED))),
    case("NA to the VM", came(V6.into(ICMPV6, na(PEER6, target_link(PEER_MAC)), hops=255))),
    case("NA to everybody", came(into(na(PEER6, target_link(PEER_MAC)), source=PEER6))),
    case("NA to another", came(V6.into(ICMPV6, na(PEER6), target=PEER6, hops=255, to=OTHER_MAC), Reason.NOT_ADDRESSED)),
]  # fmt: skip
"""Passes whatever policy says, and opens no flow."""

FORGERIES = {
    "NA for a foreign target": (na(PEER6, target_link(MAC)), {}),
    "NA for a foreign target without a link-layer address": (na(PEER6), {}),
    "NA for the peer's link-local address": (na(PEER_LINK6, target_link(MAC)), {"source": LINK6}),
    "NA with a foreign link-layer address": (na(VM6, target_link(PEER_MAC)), {}),
    "NA with a foreign source link-layer address": (na(VM6, source_link(PEER_MAC)), {}),
    "NA, the second option foreign": (na(VM6, target_link(MAC), target_link(PEER_MAC)), {}),
    "NA, the eighth option foreign": (na(VM6, *[nd_option(14, b"nonce!")] * 7, target_link(PEER_MAC)), {}),
    "NS with a foreign link-layer address": (ns(PEER6, source_link(PEER_MAC)), {"target": PEER_SOLICITED}),
    "NS with a foreign target link-layer address": (ns(PEER6, target_link(PEER_MAC)), {"target": PEER_SOLICITED}),
    "DAD for the peer's address": (ns(PEER6), {"source": UNSPECIFIED6, "target": PEER_SOLICITED}),
    "RS with a foreign link-layer address": (rs(source_link(PEER_MAC)), {"source": LINK6, "target": ALL_ROUTERS}),
}
DISGUISES = (
    (),
    (HOP_BY_HOP,),
    (DESTINATION,),
    (HOP_BY_HOP, DESTINATION),
    (ROUTING,),
    (AH,),
    (HOP_BY_HOP, AH, DESTINATION),
)
WRAPPED_UP = ((FRAGMENT,), (HOP_BY_HOP, FRAGMENT), (FRAGMENT, DESTINATION), (DESTINATION, FRAGMENT, DESTINATION))


def dressed(headers: tuple[int, ...]) -> str:
    return "behind " + ", ".join(map(str, headers)) if headers else "plain"


FORGED = [
    *(
        case(f"{what}, {dressed(headers)}", sent(out(message, **way, headers=headers), Reason.FOREIGN_ND))
        for what, (message, way) in FORGERIES.items()
        for headers in DISGUISES
    ),
    *(
        case(f"{what}, {dressed(headers)}", sent(out(message, **way, headers=headers), Reason.ND_UNSAFE))
        for what, (message, way) in [*FORGERIES.items(), ("NA for its own address", (na(VM6, target_link(MAC)), {}))]
        for headers in WRAPPED_UP
    ),
    case("NA from a foreign address", sent(out(na(VM6, target_link(MAC)), source=PEER6), Reason.FOREIGN_IP)),
    case("NA from ::", sent(out(na(VM6, target_link(MAC)), source=UNSPECIFIED6), Reason.FOREIGN_IP)),
    case("MLD query from ::", sent(out(mld(130, "::"), source=UNSPECIFIED6, hops=1), Reason.FOREIGN_IP)),
    case("NS in a foreign frame",
         sent(V6.out(ICMPV6, ns(VM6, source_link(PEER_MAC)), mac=PEER_MAC, hops=255), Reason.FOREIGN_MAC)),
]  # fmt: skip

ROUTED = [
    *(
        case(f"MLD {kind} {what}", step(frame(mld(kind, GROUP), **way), Reason.ND_UNSAFE))
        for kind in (130, 131, 132, 143)
        for what, step, frame, way in (
            ("with hop limit 64", sent, out, {"source": LINK6, "target": GROUP, "hops": 64}),
            ("to one station", sent, out, {"source": LINK6, "target": PEER6, "hops": 1}),
            ("from a global address", sent, out, {"target": GROUP, "hops": 1}),
            ("to the VM with hop limit 64", came, into, {"hops": 64}),
            ("to the VM from a global address", came, into, {"source": PEER6, "target": VM6, "hops": 1}),
        )
    ),
    case("MLD report to a group in a frame to one station",
         sent(V6.out(ICMPV6, mld(131, GROUP), source=LINK6, target=GROUP, hops=1), Reason.ND_UNSAFE)),
]  # fmt: skip
"""What tells routers who listens is said on one link: else it could carry anything anywhere."""

FARAWAY = [
    case(f"{what} with hop limit {hops}", step(frame(message, hops=hops), Reason.ND_UNSAFE))
    for what, message in {
        "NS": ns(PEER6, source_link(MAC)), "NA": na(VM6, target_link(MAC)), "RS": rs(source_link(MAC)),
        "redirect": redirect(PEER6, PEER6), "RA": ra(),
    }.items()
    for hops in (254, 64, 0)
    for step, frame in ((came, into), (sent, out))
    if step is came or what in {"NS", "NA", "RS"}
]  # fmt: skip
"""RFC 4861, 7.1: what was not sent on this link is not believed."""

TORN = [
    case("option of length 0", sent(out(na(VM6, nd_option(2, b"\x52\x54\0\0\0\1", units=0))), Reason.MALFORMED)),
    case("option beyond the packet", sent(out(na(VM6, nd_option(14, b"nonce!", units=2))), Reason.MALFORMED)),
    case("link-layer address of another length",
         sent(out(na(VM6, nd_option(2, b"\x52\x54\0\0\0\1" + bytes(8)))), Reason.FOREIGN_ND)),
    case("half an option", sent(out(na(VM6, target_link(MAC)[:4])), Reason.MALFORMED)),
    case("an option's first byte", sent(out(na(VM6, b"\2")), Reason.MALFORMED)),
    case("nine options", sent(out(ns(PEER6, *[nd_option(14, b"nonce!")] * 9)), Reason.MALFORMED)),
    case("NA without its target", sent(out(na(VM6)[:20]), Reason.MALFORMED)),
    case("NS without its target", sent(out(ns(PEER6)[:8]), Reason.MALFORMED)),
    case("ICMPv6 without its header", sent(out(na(VM6)[:4]), Reason.MALFORMED)),
]  # fmt: skip


def torn_apart(message: bytes, *, source: str = VM6, headers: tuple[int, ...] = ()) -> tuple[bytes, bytes]:
    """Two fragments: all but the last 8 bytes, and the last 8 bytes."""
    whole = ipv6(source, ALL_NODES, *behind(headers, ICMPV6, message), hops=255)
    cut = len(whole) - 40 - 8
    frames = [ethernet(MAC, group_mac(ALL_NODES), IPV6, piece6(whole, *ends)) for ends in ((0, cut), (cut, None))]
    return frames[0], frames[1]


def hidden(message: bytes) -> tuple[bytes, bytes]:
    """RFC 7113: the first fragment holds options only, and the message comes in the second."""
    options = destination_options(ICMPV6, b"", options=b"\1\14" + bytes(12))
    whole = options + message
    return tuple(
        ethernet(MAC, group_mac(ALL_NODES), IPV6, ipv6(LINK6, ALL_NODES, FRAGMENT, fragment, hops=255))
        for fragment in (
            fragment6(DESTINATION, whole[: len(options)], more=True),
            fragment6(DESTINATION, whole[len(options) :], first=len(options)),
        )
    )  # type: ignore[return-value]


def in_pieces(says: str, frames: tuple[bytes, bytes], first: Reason) -> Case:
    return case(says, sent(frames[0], first), sent(frames[1], Reason.FRAGMENT))


ROUTERS = {
    "RA": ra(source_link(MAC), prefix_information("2001:db8:bad::")),
    "RA without options": ra(),
    "redirect": redirect(LINK6, "2001:db8:9::1", target_link(MAC)),
}
FRAGMENTED = [
    in_pieces("NA in two fragments", torn_apart(na(VM6, target_link(MAC))), Reason.ND_UNSAFE),
    in_pieces("foreign NA in two fragments", torn_apart(na(PEER6, target_link(MAC))), Reason.ND_UNSAFE),
    in_pieces("RA in two fragments", torn_apart(ROUTERS["RA"], source=LINK6), Reason.ND_UNSAFE),
    in_pieces("RA in two fragments behind options",
              torn_apart(ROUTERS["RA"], source=LINK6, headers=(DESTINATION,)), Reason.ND_UNSAFE),
    in_pieces("RA hidden in the second fragment", hidden(ROUTERS["RA"]), Reason.FRAGMENT_SHORT),
    in_pieces("NA hidden in the second fragment", hidden(na(PEER6, target_link(MAC))), Reason.FRAGMENT_SHORT),
    case("fragmented RA to the VM",
         came(into(ra(), headers=(FRAGMENT,)), Reason.ND_UNSAFE),
         came(into(ra(), headers=(DESTINATION, FRAGMENT, DESTINATION)), Reason.ND_UNSAFE)),
]  # fmt: skip

ADVERTISED = [
    case(f"{what}, {dressed(headers)}", sent(out(message, source=LINK6, headers=headers), Reason.ROUTER))
    for what, message in ROUTERS.items()
    for headers in DISGUISES
]
A_ROUTER = [
    case(f"{what} of a router, {dressed(headers)}", sent(out(message, source=LINK6, headers=headers)))
    for what, message in ROUTERS.items()
    for headers in DISGUISES
] + [
    case("RA of a router in a fragment", sent(out(ra(), source=LINK6, headers=(FRAGMENT,)), Reason.ND_UNSAFE)),
    case("RA of a router from afar", sent(out(ra(), source=LINK6, hops=64), Reason.ND_UNSAFE)),
    case("RA of a router with another's address", sent(out(ra(), source=PEER_LINK6), Reason.FOREIGN_IP)),
    case("NA of a router for another", sent(out(na(PEER6, target_link(MAC))), Reason.FOREIGN_ND)),
]

OTHER_MESSAGES = [
    case("an ICMPv6 message that nobody guards", sent(out(icmpv6(139, 0, bytes(12))), Reason.ICMP_TYPE)),
    case("multicast router advertisement", sent(out(icmpv6(151, 0, bytes(4))), Reason.ICMP_TYPE)),
    case("certification path", came(into(icmpv6(148, 0, bytes(8))), Reason.ICMP_TYPE)),
    case("an unassigned number", sent(out(icmpv6(255, 0, bytes(4))), Reason.ICMP_TYPE)),
]

CHANNELS = [
    case("an NA inside IPv4", sent(V4.out(ICMPV6, na(VM6, target_link(MAC))), Reason.ICMP_TYPE)),
    case("an MLD report inside IPv4", sent(V4.out(ICMPV6, mld(131, GROUP)), Reason.ICMP_TYPE)),
    case("an NA inside IPv4, to the VM", came(V4.into(ICMPV6, na(PEER6)), Reason.ICMP_TYPE)),
]
"""What policy is not asked about must be what it says it is, or it would carry anything for anybody."""

IPV4_ONLY = under(
    Setup(addresses=(VM,), policies=OPEN),
    [
        case("NA for the address that its MAC makes", sent(out(na(LINK6, target_link(MAC)), source=LINK6), Reason.FOREIGN_IP)),
        case("a packet", sent(V6.out(TCP, tcp(1000, 443, SYN)), Reason.FOREIGN_IP)),
        case("a packet to it", came(V6.into(TCP, tcp(5000, 22, SYN)), Reason.NOT_ADDRESSED)),
        case("a packet to the address that its MAC makes",
             came(V6.into(TCP, tcp(5000, 22, SYN), target=LINK6), Reason.NOT_ADDRESSED)),
        case("IPv4 is not concerned", sent(V4.out(TCP, tcp(1000, 443, SYN))), flows=1),
    ],
)  # fmt: skip

TABLE = [*FORGED, *ROUTED, *FARAWAY, *TORN, *FRAGMENTED, *ADVERTISED, *OTHER_MESSAGES, *IPV4_ONLY]


@pytest.mark.parametrize(
    "row", [*TABLE, *under(Setup(security=PortSecurity(serves=frozenset({Serves.ROUTER}))), A_ROUTER)],
    ids=lambda row: row.says,
)  # fmt: skip
def test_message(stage: Stage, row: Case) -> None:
    play(stage, row)


@pytest.mark.parametrize("policies", [CLOSED, STANDARD, OPEN], ids=["nothing accepted", "something", "everything"])
@pytest.mark.parametrize("row", HONEST, ids=lambda row: row.says)
def test_honest_messages_are_not_policys_business(stage: Stage, row: Case, policies: tuple) -> None:
    play(stage, *under(Setup(policies=policies), [row]))


@pytest.mark.parametrize("row", CHANNELS, ids=lambda row: row.says)
def test_nothing_else_is_exempt_from_policy(stage: Stage, row: Case) -> None:
    play(stage, *under(Setup(policies=CLOSED), [row]))


def test_no_rule_and_no_flow_excuses_it(stage: Stage) -> None:
    gate = stage.set(Setup(policies=OPEN).world(), PATH)
    for family in FAMILIES:
        assert gate.send(OUT, family.out(TCP, tcp(1000, 443, SYN))).passed
        assert gate.send(IN, family.into(TCP, tcp(5000, 22, SYN))).passed
    for row in [*FORGED, *FARAWAY, *FRAGMENTED, *ADVERTISED]:
        for step in row.steps:
            assert gate.send(step.direction, step.frame).reason is step.reason, row.says
    assert gate.flows.count() == 4
