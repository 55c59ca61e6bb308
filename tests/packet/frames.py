"""Builds frames byte by byte, good ones and bad ones.

What a header promises can be overridden by a keyword, to lie. Checksums are zero: the gate leaves them to the
receiver.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

IPV4, ARP, RARP, VLAN, QINQ, IPV6 = 0x0800, 0x0806, 0x8035, 0x8100, 0x88A8, 0x86DD
TRANSPARENT_ETHERNET = 0x6558  # RFC 1701: a frame inside GRE or Geneve
HOP_BY_HOP, ICMP, IPIP, TCP, UDP, IPV6_IN_IP, ROUTING, FRAGMENT, GRE, ESP, AH, ICMPV6, NO_NEXT, DESTINATION = (
    0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60,
)  # fmt: skip
SCTP = 132
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
BROADCAST = "ff:ff:ff:ff:ff:ff"
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"  # noqa: S104  # as addresses in a packet
MORE = 0x2000


def mac(text: str) -> bytes:
    """Six bytes of an address, group addresses included."""
    return bytes.fromhex(text.replace(":", ""))


def group_mac(address: str) -> str:
    """Where frames to an IPv6 group go (RFC 2464)."""
    return "33:33:" + IPv6Address(address).packed[-4:].hex(":")


def solicited_node(address: str) -> str:
    """The group that a neighbor solicitation for ``address`` goes to (RFC 4291, 2.7.1)."""
    return str(IPv6Address(b"\xff\x02" + bytes(9) + b"\1\xff" + IPv6Address(address).packed[-3:]))


# Frames


def ethernet(source: str, target: str, ethertype: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", ethertype) + payload


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with tags in front of its ethertype: (0x8100 or 0x88a8, VLAN), the outermost first."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


def llc(source: str, target: str, payload: bytes, *, length: int | None = None) -> bytes:
    """An 802.3 frame: a length, and LLC's header of unnumbered information between network layers of nobody."""
    body = b"\x42\x42\x03" + payload
    return ethernet(source, target, len(body) if length is None else length, body)


def snap(source: str, target: str, ethertype: int, payload: bytes, *, length: int | None = None) -> bytes:
    """RFC 1042: an ethertype behind LLC, which some receivers take as they take Ethernet's own."""
    body = b"\xaa\xaa\x03\0\0\0" + struct.pack("!H", ethertype) + payload
    return ethernet(source, target, len(body) if length is None else length, body)


def arp(  # noqa: PLR0917  # in the order of the packet
    operation: int, sender_mac: str, sender: str, target: str, target_mac: str = "00:00:00:00:00:00",
    lengths: tuple[int, int] = (6, 4), *, kinds: tuple[int, int] = (1, IPV4),
) -> bytes:  # fmt: skip
    return (
        struct.pack("!HHBBH", *kinds, *lengths, operation)
        + mac(sender_mac)
        + IPv4Address(sender).packed
        + mac(target_mac)
        + IPv4Address(target).packed
        + bytes(18)
    )


# IPv4


def ipv4(  # a header has that many fields
    source: str, target: str, protocol: int, payload: bytes, *, fragment: int = 0, options: bytes = b"",
    total: int | None = None, ihl: int | None = None, identifier: int = 1, hops: int = 64,
) -> bytes:  # fmt: skip
    """An IPv4 packet; ``fragment`` is flags and offset, ``total`` and ``ihl`` override what is true."""
    words = 5 + len(options) // 4
    length = min(words * 4 + len(payload), 0xFFFF) if total is None else total
    return (
        struct.pack(
            "!BBHHHBBH4s4s", 4 << 4 | (words if ihl is None else ihl), 0, length, identifier, fragment, hops, protocol, 0,
            IPv4Address(source).packed, IPv4Address(target).packed,
        )
        + options
        + payload
    )  # fmt: skip


def summed(packet: bytes) -> bytes:
    """Fill in the checksum of an IPv4 header: where br_netfilter is loaded, bridges look at it."""
    total = sum(struct.unpack("!10H", packet[:20]))
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + packet[12:]


def _padded(option: bytes, unit: int) -> bytes:
    return option + bytes(-len(option) % unit)


def record_route(*addresses: str) -> bytes:
    return _padded(_route(7, addresses), 4)


def source_route(*addresses: str, strict: bool = False) -> bytes:
    """The options by which a sender chooses a packet's way (RFC 791, 3.1)."""
    return _padded(_route(137 if strict else 131, addresses), 4)


def _route(kind: int, addresses: tuple[str, ...]) -> bytes:
    return bytes((kind, 3 + 4 * len(addresses), 4)) + b"".join(IPv4Address(a).packed for a in addresses)


def piece(packet: bytes, first: int, last: int | None = None, *, more: bool | None = None) -> bytes:
    """The fragment of an IPv4 packet that carries its payload's bytes ``first`` to ``last``; the end: no more follow."""
    header = (packet[0] & 15) * 4
    payload = packet[header:][first:last]
    if more is None:
        more = last is not None and last < len(packet) - header
    fields = struct.pack("!HHH", header + len(payload), *struct.unpack("!H", packet[4:6]), first // 8 | MORE * more)
    return packet[:2] + fields + packet[8:header] + payload


def pieces(packet: bytes, *cuts: int) -> list[bytes]:
    """The fragments of an IPv4 packet, cut at these bytes of its payload."""
    return [piece(packet, first, last) for first, last in zip((0, *cuts), (*cuts, None), strict=True)]


# IPv6


def ipv6(
    source: str, target: str, next_header: int, payload: bytes, *, hops: int = 64, length: int | None = None
) -> bytes:
    carried = min(len(payload), 0xFFFF) if length is None else length
    addresses = IPv6Address(source).packed + IPv6Address(target).packed
    return struct.pack("!IHBB", 6 << 28, carried, next_header, hops) + addresses + payload


def _options_header(next_header: int, payload: bytes, options: bytes) -> bytes:
    """Options, and one that pads (PadN) up to a multiple of 8."""
    missing = -(2 + len(options)) % 8
    padding = b"\0" if missing == 1 else bytes((1, missing - 2)) + bytes(missing - 2) if missing else b""
    return bytes((next_header, (2 + len(options) + missing) // 8 - 1)) + options + padding + payload


def hop_by_hop(next_header: int, payload: bytes, options: bytes = b"") -> bytes:
    return _options_header(next_header, payload, options)


def destination_options(next_header: int, payload: bytes, options: bytes = b"") -> bytes:
    return _options_header(next_header, payload, options)


def routing(next_header: int, payload: bytes, *addresses: str, kind: int = 4, left: int = 0) -> bytes:
    """A routing header; kind 0 is the one that RFC 5095 took back."""
    body = bytes(4) + b"".join(IPv6Address(address).packed for address in addresses)
    return bytes((next_header, (4 + len(body)) // 8 - 1, kind, left)) + body + payload


def fragment6(next_header: int, payload: bytes, *, first: int = 0, more: bool = False, identifier: int = 1) -> bytes:
    """A fragment header; ``first`` is where the payload stands in the datagram, in bytes."""
    return struct.pack("!BBHI", next_header, 0, first | more, identifier) + payload


def ah(next_header: int, payload: bytes, *, check: bytes = bytes(12)) -> bytes:
    """RFC 4302; its length counts words of four bytes."""
    return struct.pack("!BBHII", next_header, (12 + len(check)) // 4 - 2, 0, 1, 1) + check + payload


WRAPPERS: Mapping[int, Callable[[int, bytes], bytes]] = {
    HOP_BY_HOP: hop_by_hop,
    ROUTING: routing,
    FRAGMENT: fragment6,
    AH: ah,
    DESTINATION: destination_options,
}


def behind(headers: tuple[int, ...], protocol: int, payload: bytes) -> tuple[int, bytes]:
    """Number and bytes of ``payload`` behind these extension headers, for ``ipv6``."""
    for number in reversed(headers):
        protocol, payload = number, WRAPPERS[number](protocol, payload)
    return protocol, payload


def piece6(
    packet: bytes, first: int, last: int | None = None, *, more: bool | None = None, identifier: int = 1
) -> bytes:
    """The fragment of an IPv6 packet that carries bytes ``first`` to ``last`` of what follows the fixed header."""
    payload = packet[40:][first:last]
    if more is None:
        more = last is not None and last < len(packet) - 40
    body = fragment6(packet[6], payload, first=first, more=more, identifier=identifier)
    return packet[:4] + struct.pack("!HBB", len(body), FRAGMENT, packet[7]) + packet[8:40] + body


def pieces6(packet: bytes, *cuts: int, identifier: int = 1) -> list[bytes]:
    """The fragments of an IPv6 packet, cut at these bytes behind its fixed header."""
    return [
        piece6(packet, first, last, identifier=identifier)
        for first, last in zip((0, *cuts), (*cuts, None), strict=True)
    ]


# Transport


def tcp(  # a header has that many fields
    source: int, target: int, flags: int, payload: bytes = b"", *, offset: int | None = None, seq: int = 1,
    ack: int = 1, window: int = 500, options: bytes = b"",
) -> bytes:  # fmt: skip
    """A TCP segment; ``offset`` (in words) overrides the true length of its header."""
    options = _padded(options, 4)
    words = 5 + len(options) // 4 if offset is None else offset
    numbers = (seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
    return struct.pack("!HHIIBBHHH", source, target, *numbers, words << 4, flags, window, 0, 0) + options + payload


def segment_size(size: int) -> bytes:
    return struct.pack("!BBH", 2, 4, size)


def window_scale(shift: int) -> bytes:
    return bytes((1, 3, 3, shift))  # a byte of padding in front, as stacks do


SACK_PERMITTED = b"\1\1\4\2"


def sack(*blocks: tuple[int, int]) -> bytes:
    return bytes((1, 1, 5, 2 + 8 * len(blocks))) + b"".join(
        struct.pack("!II", first & 0xFFFFFFFF, last & 0xFFFFFFFF) for first, last in blocks
    )


def udp(source: int, target: int, payload: bytes = b"payload", *, length: int | None = None) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload) if length is None else length, 0) + payload


def icmp(kind: int, code: int = 0, identifier: int = 7, payload: bytes = b"") -> bytes:
    """An ICMP message in the form of an echo; ICMPv6's is the same."""
    return struct.pack("!BBHHH", kind, code, 0, identifier, 1) + payload


def icmp_error(kind: int, code: int, quoted: bytes, *, value: int = 0) -> bytes:
    """An error that quotes the IP header and the first 8 bytes of what it is about (RFC 792)."""
    return struct.pack("!BBHI", kind, code, 0, value) + quoted[: (quoted[0] & 15) * 4 + 8]


def sctp(source: int, target: int, tag: int, *chunks: bytes) -> bytes:
    return struct.pack("!HHII", source, target, tag, 0) + b"".join(chunks)


def chunk(kind: int, body: bytes = b"", *, flags: int = 0) -> bytes:
    return _padded(struct.pack("!BBH", kind, flags, 4 + len(body)) + body, 4)


def sctp_init(tag: int) -> bytes:
    """An INIT that asks for ``tag`` in what is sent back (RFC 9260, 3.3.2)."""
    return chunk(1, struct.pack("!IIHHI", tag, 65536, 10, 10, 1))


def sctp_init_ack(tag: int) -> bytes:
    return chunk(2, struct.pack("!IIHHI", tag, 65536, 10, 10, 1) + struct.pack("!HH", 7, 12) + b"a cookie")


def sctp_data(payload: bytes = b"data", number: int = 1) -> bytes:
    return chunk(0, struct.pack("!IHHI", number, 0, 0, 0) + payload, flags=3)


SCTP_ABORT, SCTP_SHUTDOWN = chunk(6), chunk(7, struct.pack("!I", 1))
SCTP_SHUTDOWN_ACK, SCTP_COOKIE, SCTP_COOKIE_ACK, SCTP_SHUTDOWN_COMPLETE = chunk(8), chunk(10, b"a cookie"), chunk(11), chunk(14)  # fmt: skip


# ICMPv6


def icmpv6(kind: int, code: int = 0, body: bytes = b"") -> bytes:
    """An ICMPv6 message; ``body`` is all behind the checksum."""
    return struct.pack("!BBH", kind, code, 0) + body


def icmpv6_error(kind: int, code: int, quoted: bytes, *, value: int = 0) -> bytes:
    """An error that quotes as much as fits (RFC 4443, 2.4); packet too big (2) says its MTU in ``value``."""
    return icmpv6(kind, code, struct.pack("!I", value) + quoted[: 1280 - 48])


def nd_option(kind: int, body: bytes, *, units: int | None = None) -> bytes:
    """An option of neighbor discovery; ``units`` (of 8 bytes) overrides its true length."""
    return _padded(bytes((kind, (len(body) + 9) // 8 if units is None else units)) + body, 8)


def source_link(address: str) -> bytes:
    return nd_option(1, mac(address))


def target_link(address: str) -> bytes:
    return nd_option(2, mac(address))


def prefix_information(prefix: str, length: int = 64) -> bytes:
    return nd_option(3, struct.pack("!BBIII", length, 0xC0, 86400, 14400, 0) + IPv6Address(prefix).packed)


def rs(*options: bytes) -> bytes:
    return icmpv6(133, 0, bytes(4) + b"".join(options))


def ra(*options: bytes) -> bytes:
    return icmpv6(134, 0, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"".join(options))


def ns(target: str, *options: bytes) -> bytes:
    return icmpv6(135, 0, bytes(4) + IPv6Address(target).packed + b"".join(options))


def na(target: str, *options: bytes, flags: int = 0x60) -> bytes:
    """An advertisement; it is solicited and overrides what is known."""
    return icmpv6(136, 0, bytes((flags, 0, 0, 0)) + IPv6Address(target).packed + b"".join(options))


def redirect(target: str, destination: str, *options: bytes) -> bytes:
    return icmpv6(137, 0, bytes(4) + IPv6Address(target).packed + IPv6Address(destination).packed + b"".join(options))


def mld(kind: int, group: str) -> bytes:
    """A query (130), report (131) or done (132) of RFC 2710."""
    return icmpv6(kind, 0, struct.pack("!HH", 10000 * (kind == 130), 0) + IPv6Address(group).packed)


def mld2(*groups: str) -> bytes:
    """A report of RFC 3810, by hosts that join these groups."""
    records = b"".join(struct.pack("!BBH", 4, 0, 0) + IPv6Address(group).packed for group in groups)
    return icmpv6(143, 0, struct.pack("!HH", 0, len(groups)) + records)


# DHCP


def dhcp(operation: int, client: str, *, kind: int | None = None, hlen: int = 6, yours: str = NOBODY) -> bytes:
    """A BOOTP message (RFC 2131) about the client with the MAC ``client``; ``kind`` is its DHCP message type."""
    wanted = kind if kind is not None else (1 if operation == 1 else 2)
    return (
        struct.pack("!BBBBIHH", operation, 1, hlen, 0, 0x5E7A1, 0, 0)
        + bytes(4)
        + IPv4Address(yours).packed
        + bytes(8)
        + mac(client)
        + bytes(10 + 64 + 128)
        + b"\x63\x82\x53\x63"
        + bytes((53, 1, wanted, 255))
    )


def dhcpv6(kind: int, client: str) -> bytes:
    """A DHCPv6 message (RFC 8415) with the client's DUID made of its MAC."""
    identity = struct.pack("!HH", 3, 1) + mac(client)
    return struct.pack("!I", kind << 24 | 0x5E7A1) + struct.pack("!HH", 1, len(identity)) + identity


# Tunnels


def vxlan(network: int, frame: bytes) -> bytes:
    return struct.pack("!BBHI", 8, 0, 0, network << 8) + frame


def geneve(network: int, frame: bytes) -> bytes:
    return struct.pack("!BBHI", 0, 0, TRANSPARENT_ETHERNET, network << 8) + frame


def gre(ethertype: int, payload: bytes) -> bytes:
    return struct.pack("!HH", 0, ethertype) + payload
