"""Headers of IP: those that lie about their length, those that stand in front of others, and those that hide packets."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from cases import (
    ACCEPT,
    CLOSED,
    DENY,
    FAMILIES,
    IN,
    MAC,
    OPEN,
    OUT,
    PATH,
    PEER,
    PEER6,
    PEER_MAC,
    STANDARD,
    V4,
    V6,
    VM,
    VM6,
    Case,
    Family,
    Setup,
    came,
    case,
    each,
    play,
    policy,
    sent,
)
from conftest import Stage
from frames import (
    ACK,
    AH,
    DESTINATION,
    ESP,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    ICMP,
    ICMPV6,
    IPIP,
    IPV4,
    IPV6,
    IPV6_IN_IP,
    NO_NEXT,
    ROUTING,
    SYN,
    TCP,
    TRANSPARENT_ETHERNET,
    UDP,
    ah,
    destination_options,
    ethernet,
    fragment6,
    geneve,
    gre,
    hop_by_hop,
    icmp,
    ipv4,
    ipv6,
    record_route,
    routing,
    source_route,
    tcp,
    udp,
    vxlan,
)

from serai.model.inventory import PortSecurity
from serai.model.policy import InCidr
from serai.model.reasons import Reason

ETHERIP, IPCOMP, ENCAPSULATION, MPLS = 97, 108, 98, 137
MOBILITY, HIP, SHIM6, EXPERIMENT = 135, 139, 140, 253
SYN443, SYN80 = tcp(1000, 443, SYN), tcp(1000, 80, SYN)


def of_both(family: Family) -> list[Case]:
    """Headers that are cut short or promise too much."""
    protocol = 6
    return [
        case("TCP without its last byte", sent(family.out(protocol, SYN443[:19]), Reason.MALFORMED)),
        case("TCP with a data offset of 4", sent(family.out(protocol, tcp(1000, 443, SYN, offset=4)), Reason.MALFORMED)),
        case("TCP options beyond the packet", sent(family.out(protocol, tcp(1000, 443, SYN, offset=6)), Reason.MALFORMED)),
        case("TCP with all the options there can be",
             sent(family.out(protocol, tcp(1000, 443, SYN, options=b"\1" * 40))), flows=1),
        case("UDP without its header", sent(family.out(UDP, udp(1000, 53)[:7]), Reason.MALFORMED)),
        case("UDP without anything", sent(family.out(UDP, b""), Reason.MALFORMED)),
        case("UDP with nothing in it", sent(family.out(UDP, udp(1000, 53, b""))), flows=1),
        case("UDP with a length of 7", sent(family.out(UDP, udp(1000, 53, length=7)), Reason.MALFORMED)),
        case("UDP with a length of 0", sent(family.out(UDP, udp(1000, 53, length=0)), Reason.MALFORMED)),
        case("UDP longer than its packet", sent(family.out(UDP, udp(1000, 53, length=16)), Reason.MALFORMED)),
        case("UDP shorter than its packet", sent(family.out(UDP, udp(1000, 53, length=9))), flows=1),
        case("ICMP without its header", sent(family.out(family.icmp, icmp(family.echo)[:7]), Reason.MALFORMED)),
        case("bytes behind the packet", sent(family.out(protocol, SYN443) + bytes(30)), flows=1),
        case("a header that stands behind the packet's end",
             came(family.into(UDP, b"") + udp(1000, 5000), Reason.MALFORMED)),
        case("UDP without its header, to the VM", came(family.into(UDP, udp(1000, 5000)[:7]), Reason.MALFORMED)),
    ]  # fmt: skip


def odd(protocol: int, **lies: int) -> bytes:
    return V4.out(protocol, SYN443, **lies)


SHORT = [
    *(row for family in FAMILIES for row in each(family, *of_both(family))),
    case("IHL 4", sent(odd(TCP, ihl=4), Reason.MALFORMED)),
    case("IHL 0", sent(odd(TCP, ihl=0), Reason.MALFORMED)),
    case("IHL beyond the packet", sent(V4.out(TCP, b"", ihl=15), Reason.MALFORMED)),
    case("IHL over the TCP header", sent(odd(TCP, ihl=10), Reason.MALFORMED)),
    case("length beyond the frame", sent(odd(TCP, total=1400), Reason.MALFORMED)),
    case("length one byte beyond the frame", sent(odd(TCP, total=41), Reason.MALFORMED)),
    case("length shorter than the header", sent(odd(TCP, total=19), Reason.MALFORMED)),
    case("length 0", sent(odd(TCP, total=0), Reason.MALFORMED)),
    case("version 6 under IPv4's type", sent(ethernet(MAC, PEER_MAC, IPV4, ipv6(VM6, PEER6, TCP, SYN443)), Reason.MALFORMED)),
    case("IPv6: version 4 under IPv6's type",
         sent(ethernet(MAC, PEER_MAC, IPV6, ipv4(VM, PEER, TCP, SYN443, options=bytes(20))), Reason.MALFORMED)),
    case("IPv6: length beyond the frame", sent(V6.out(TCP, SYN443, length=21), Reason.MALFORMED)),
    case("IPv6: length before the end of TCP", sent(V6.out(TCP, SYN443, length=19), Reason.MALFORMED)),
    case("IPv6: length 0", sent(V6.out(TCP, SYN443, length=0), Reason.MALFORMED)),
]  # fmt: skip

OPTIONS = [
    case("record route", sent(V4.out(TCP, SYN443, options=record_route("0.0.0.0", "0.0.0.0"))), flows=1),  # noqa: S104
    case("router alert", sent(V4.out(TCP, SYN443, options=b"\x94\4\0\0")), flows=1),
    case("nothing but padding", sent(V4.out(TCP, SYN443, options=b"\1" * 40)), flows=1),
    case("behind the end of options", sent(V4.out(TCP, SYN443, options=b"\0" + source_route(VM)[:7])), flows=1),
    *(
        row
        for strict, name in ((False, "loose"), (True, "strict"))
        for row in (
            case(f"{name} source route", sent(V4.out(TCP, SYN443, options=source_route(VM, strict=strict)), Reason.IP_OPTIONS)),
            case(f"{name} source route behind others",
                 sent(V4.out(TCP, SYN443, options=b"\1\1\x94\4\0\0" + source_route(strict=strict)[:3] + b"\0\0\0"),
                      Reason.IP_OPTIONS)),
            case(f"{name} source route to the VM",
                 came(V4.into(TCP, tcp(5000, 22, SYN), options=source_route(VM, strict=strict)), Reason.IP_OPTIONS)),
            case(f"{name} source route around another protocol",
                 sent(V4.out(ESP, bytes(16), options=source_route(VM, strict=strict)), Reason.IP_OPTIONS)),
        )
    ),
    case("option of length 0", sent(V4.out(TCP, SYN443, options=b"\7\0\0\0"), Reason.MALFORMED)),
    case("option of length 1", sent(V4.out(TCP, SYN443, options=b"\7\1\0\0"), Reason.MALFORMED)),
    case("option beyond the header", sent(V4.out(TCP, SYN443, options=b"\7\5\4\0"), Reason.MALFORMED)),
    case("an option's first byte", sent(V4.out(TCP, SYN443, options=b"\1\1\1\7"), Reason.MALFORMED)),
]  # fmt: skip


def through(*headers: int, payload: bytes = SYN443, protocol: int = TCP) -> bytes:
    return V6.out(protocol, payload, headers=headers)


EVERY_KIND = (HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, AH, DESTINATION)
"""Each in its place (RFC 8200, 4.1): as many as are walked."""
CARRIED = [
    (HOP_BY_HOP,), (DESTINATION,), (ROUTING,), (FRAGMENT,), (AH,), (HOP_BY_HOP, AH), (AH, DESTINATION),
    (DESTINATION, DESTINATION), (HOP_BY_HOP, DESTINATION, ROUTING), (AH,) * 6, EVERY_KIND,
]  # fmt: skip
REFUSED = {
    "hop-by-hop behind another": (DESTINATION, HOP_BY_HOP),
    "hop-by-hop twice": (HOP_BY_HOP, HOP_BY_HOP),
    "seven headers": (DESTINATION,) * 7,
    "seven kinds": (*EVERY_KIND, DESTINATION),
    "twenty headers": (DESTINATION,) * 20,
    "a fragment of a fragment": (FRAGMENT, FRAGMENT),
}


def extended(number: int, header: bytes) -> bytes:
    """A packet whose first extension header is made by hand."""
    return ethernet(MAC, PEER_MAC, IPV6, ipv6(VM6, PEER6, number, header))


EXTENSIONS = [
    *(case(f"allowed port behind {headers}", sent(through(*headers)), flows=1) for headers in CARRIED),
    *(case(f"denied port behind {headers}", sent(through(*headers, payload=SYN80), Reason.DENIED)) for headers in CARRIED),
    *(case(what, sent(through(*headers), Reason.EXTENSION)) for what, headers in REFUSED.items()),
    case("to the VM: AH behind hop-by-hop", came(V6.into(TCP, tcp(5000, 22, SYN), headers=(HOP_BY_HOP, AH))), flows=1),
    case("to the VM: hop-by-hop twice",
         came(V6.into(TCP, tcp(5000, 22, SYN), headers=(HOP_BY_HOP, HOP_BY_HOP)), Reason.EXTENSION)),
    case("routing that is not at its end", sent(extended(ROUTING, routing(TCP, SYN443, PEER6, kind=4, left=1)), Reason.EXTENSION)),
    case("routing of type 0", sent(extended(ROUTING, routing(TCP, SYN443, PEER6, kind=0, left=1)), Reason.EXTENSION)),
    case("routing of type 0 that has arrived", sent(extended(ROUTING, routing(TCP, SYN443, PEER6, kind=0)), Reason.EXTENSION)),
    case("routing of type 2", sent(extended(ROUTING, routing(TCP, SYN443, PEER6, kind=2))), flows=1),
    case("mobility", sent(extended(MOBILITY, hop_by_hop(NO_NEXT, b"")), Reason.EXTENSION)),
    case("host identity", sent(extended(HIP, hop_by_hop(NO_NEXT, b"")), Reason.EXTENSION)),
    case("shim6", sent(extended(SHIM6, hop_by_hop(TCP, SYN443)), Reason.EXTENSION)),
    case("mobility behind options", sent(extended(DESTINATION, destination_options(MOBILITY, hop_by_hop(TCP, SYN443))), Reason.EXTENSION)),
    case("an unknown header is a protocol", sent(extended(EXPERIMENT, hop_by_hop(TCP, SYN443)), Reason.DENIED)),
    case("no next header is a protocol", sent(through(protocol=NO_NEXT), Reason.DENIED)),
    case("no next header behind options", sent(through(HOP_BY_HOP, DESTINATION, protocol=NO_NEXT), Reason.DENIED)),
    case("encrypted", sent(through(HOP_BY_HOP, protocol=ESP, payload=bytes(24))), flows=1),
    case("options longer than the packet", sent(extended(DESTINATION, b"\6\7" + bytes(30)), Reason.MALFORMED)),
    case("options that hide all but their first byte", sent(extended(DESTINATION, b"\6"), Reason.MALFORMED)),
    case("half a fragment header", sent(extended(FRAGMENT, fragment6(TCP, b"")[:6]), Reason.MALFORMED)),
    case("AH longer than the packet", sent(extended(AH, ah(TCP, b"", check=bytes(12))[:16]), Reason.MALFORMED)),
    case("AH of its true length", sent(extended(AH, ah(TCP, SYN443, check=bytes(32)))), flows=1),
    case("long options", sent(extended(DESTINATION, destination_options(TCP, SYN443, options=b"\1\xfe" + bytes(254)))), flows=1),
    case("the longest options", sent(extended(HOP_BY_HOP, hop_by_hop(TCP, SYN443, options=bytes(2046)))), flows=1),
    case("the longest options before a denied port",
         sent(extended(HOP_BY_HOP, hop_by_hop(TCP, SYN80, options=bytes(2046))), Reason.DENIED)),
]  # fmt: skip

PLAIN4, PLAIN6 = V4.out(TCP, SYN443)[14:], V6.out(TCP, SYN443)[14:]
FRAME = V4.out(TCP, SYN443)


def tunnels(family: Family) -> dict[str, tuple[int, bytes]]:
    """What hides packets from a gate."""
    return {
        "IPv4 in IP": (IPIP, PLAIN4),
        "IPv6 in IP": (IPV6_IN_IP, PLAIN6),
        "GRE": (GRE, gre(IPV4, PLAIN4)),
        "Ethernet in GRE": (GRE, gre(TRANSPARENT_ETHERNET, FRAME)),
        "IP within IP (94)": (94, PLAIN4),
        "Ethernet in IP": (ETHERIP, b"\x30\0" + FRAME),
        "encapsulation (98)": (ENCAPSULATION, PLAIN4),
        "MPLS in IP": (MPLS, b"\0\x10\1\x40" + PLAIN4),
        "VXLAN": (UDP, udp(1000, 4789, vxlan(5, FRAME))),
        "VXLAN GPE": (UDP, udp(1000, 4790, vxlan(5, FRAME))),
        "VXLAN on Linux's old port": (UDP, udp(1000, 8472, vxlan(5, FRAME))),
        "Geneve": (UDP, udp(1000, 6081, geneve(5, FRAME))),
        **(
            {"VXLAN behind options": (HOP_BY_HOP, hop_by_hop(UDP, udp(1, 4789, vxlan(5, FRAME))))}
            if family is V6
            else {}
        ),
        **({"GRE behind options": (DESTINATION, destination_options(GRE, gre(IPV4, PLAIN4)))} if family is V6 else {}),
    }


HIDING = [
    (f"{family}: {what}", family.out(*packet), family.into(*packet))
    for family in FAMILIES
    for what, packet in tunnels(family).items()
]
NO_TUNNELS = [
    case(f"{family}: {what}", sent(family.out(*packet)), flows=1)
    for family in FAMILIES
    for what, packet in {
        "from a tunnel's port": (UDP, udp(4789, 1000)),
        "ESP, which others than the VM cannot read either": (ESP, bytes(24)),
        "compressed": (IPCOMP, bytes(8)),
        "TCP to a tunnel's port": (TCP, tcp(1000, 4789, SYN)),
    }.items()
]

ZERO = [
    case("protocol 0, then as before",
         sent(V4.out(TCP, SYN443)), sent(V4.out(0, bytes(40)), Reason.DENIED), sent(V4.out(0, b""), Reason.DENIED),
         came(V4.into(0, SYN443), Reason.DENIED), sent(V4.out(TCP, tcp(1000, 443, SYN))),
         sent(V4.out(UDP, udp(1000, 53))), came(V4.into(TCP, tcp(443, 1000, SYN | ACK, ack=2))), flows=2),
    case("protocol 0 where everything is accepted, then as before",
         sent(V4.out(0, bytes(40))), sent(V4.out(TCP, SYN80)), came(V4.into(0, bytes(40))),
         came(V4.into(TCP, tcp(80, 1000, SYN | ACK, ack=2))), flows=2, policies=OPEN),
    case("IPv6: protocol numbers of extension headers are IPv6's alone",
         *(sent(V4.out(number, hop_by_hop(TCP, SYN443)), Reason.DENIED) for number in (0, 43, 44, 51, 60, 135, 139, 140))),
    *(
        row
        for policies in (CLOSED, OPEN)
        for row in (
            case("ICMP in IPv6 (RFC 8200, 4.7: there is ICMPv6)",
                 sent(V6.out(ICMP, icmp(8)), Reason.ICMP_TYPE), came(V6.into(ICMP, icmp(0)), Reason.ICMP_TYPE), policies=policies),
            case("ICMPv6 in IPv4",
                 sent(V4.out(ICMPV6, icmp(128)), Reason.ICMP_TYPE), came(V4.into(ICMPV6, icmp(129)), Reason.ICMP_TYPE), policies=policies),
        )
    ),
]  # fmt: skip


def anywhere(prefix: str) -> tuple:
    return (
        policy("out", OUT, (ACCEPT, InCidr(prefix=ip_network(prefix)), ())),
        policy("in", IN, (ACCEPT, InCidr(prefix=ip_network(prefix)), ())),
    )


ONE_VERSION = [
    case(f"{family} under a policy for {prefix}",
         sent(family.out(TCP, SYN443), reason), came(family.into(TCP, tcp(5000, 22, SYN)), reason),
         sent(family.out(UDP, udp(1000, 53)), reason), sent(family.out(family.icmp, icmp(family.echo)), reason),
         sent(family.out(ESP, bytes(24)), reason), flows=0 if reason else 5, policies=anywhere(prefix))
    for family in FAMILIES
    for prefix in ("0.0.0.0/0", "::/0", "::/64", "::/95")
    for reason in [Reason.NONE if (family is V4) == (prefix == "0.0.0.0/0") and (family is V4 or prefix == "::/0") else Reason.DENIED]
]  # fmt: skip

TABLE = [*SHORT, *OPTIONS, *EXTENSIONS, *NO_TUNNELS, *ZERO, *ONE_VERSION]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_header(stage: Stage, row: Case) -> None:
    setup = Setup(policies=OPEN) if row in NO_TUNNELS else row.setup
    play(stage, case(row.says, *row.steps, flows=row.flows, policies=setup.policies))


@pytest.mark.parametrize(("says", "out", "into"), HIDING, ids=lambda value: value if isinstance(value, str) else "")
def test_tunnel(stage: Stage, says: str, out: bytes, into: bytes) -> None:
    tunnel = PortSecurity(tunnels=True)
    for policies in (CLOSED, STANDARD, OPEN):
        play(stage, case(says, sent(out, Reason.TUNNEL), policies=policies))
    play(stage, case(says, came(into), flows=1, policies=OPEN))
    play(stage, case(says, came(into, Reason.DENIED), policies=CLOSED))
    play(stage, case(says, sent(out), flows=1, policies=OPEN, security=tunnel))
    play(stage, case(says, sent(out, Reason.DENIED), policies=CLOSED, security=tunnel))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_flow_from_elsewhere_opens_no_tunnel(stage: Stage, family: Family) -> None:
    """An accepted VXLAN flow to the VM makes its answers no less a tunnel."""
    frame = udp(4789, 4789, vxlan(5, FRAME))
    play(
        stage,
        case("", came(family.into(UDP, frame)), sent(family.out(UDP, frame), Reason.TUNNEL), flows=1, policies=OPEN),
    )


NEIGHBORHOODS = [
    (V4, "10.0.0.0/8", f"{PEER}/32"), (V4, "0.0.0.0/0", "10.0.0.0/30"),
    (V6, "2001:db8::/32", f"{PEER6}/128"), (V6, "::/0", "2001:db8::/126"),
]  # fmt: skip


@pytest.mark.parametrize("held", [True, False], ids=["a VM's address", "nobody's address"])
@pytest.mark.parametrize(("family", "outer", "inner"), NEIGHBORHOODS, ids=str)
def test_an_address_inside_a_denied_network(
    stage: Stage, family: Family, outer: str, inner: str, *, held: bool
) -> None:
    """Priority says which is asked first; the longer prefix says nothing."""
    target = family.peer
    if not held:
        target, inner = family.stranger, f"{family.stranger}/{32 if family is V4 else 128}"
    frame, other = family.out(TCP, SYN443, target=target), family.out(TCP, SYN443, target=family.stranger[:-2] + "99")
    deny, accept = InCidr(prefix=ip_network(outer)), InCidr(prefix=ip_network(inner))
    for denied_at, accepted_at, reason in ((100, 200, Reason.DENIED), (200, 100, Reason.NONE)):
        both = (
            policy("deny", OUT, (DENY, deny, ()), priority=denied_at),
            policy("accept", OUT, (ACCEPT, accept, ()), priority=accepted_at),
        )
        gate = stage.set(Setup(policies=both).world(), PATH)
        assert gate.send(OUT, frame).reason is reason
        assert gate.send(OUT, other).reason is Reason.DENIED
