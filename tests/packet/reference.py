"""What the gate must say of one frame that nothing came before: slowly, from the decided semantics and the RFCs.

No flows, no fragments, no counters: a packet that could only belong to something belongs to nothing. Policy either
accepts everything or nothing.
"""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from frames import AH, DESTINATION, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, TCP, UDP

from serai.model.reasons import Reason

LEGAL_FLAGS = {0x02, 0x22, 0x12, 0x04, 0x14, 0x10, 0x30, 0x11, 0x31}
"""SYN, RST, ACK, FIN and URG, as a segment may have them; PSH goes with any."""
TUNNEL_PROTOCOLS = {4, 41, 47, 94, 97, 98, 137}
TUNNEL_PORTS = {4789, 4790, 8472, 6081}
NEIGHBORS, LISTENERS = set(range(133, 138)), {130, 131, 132, 143}
RS, RA, NS, NA, REDIRECT = range(133, 138)
SPEECHLESS = {RS, NS, 131, 132, 143}
"""What may be said by one who has no address yet."""
ERRORS = {4: {3, 4, 11, 12}, 6: {1, 2, 3, 4}}
ECHO = {4: (8, 0), 6: (128, 129)}
MAPPED, EVERYBODY, BROADCAST = bytes(10) + b"\xff\xff", b"\xff" * 4, b"\xff" * 6
RELAYS6 = {bytes.fromhex("ff02" + "0" * 20 + "00010002"), bytes.fromhex("ff05" + "0" * 20 + "00010003")}
MOST_HEADERS, MOST_OPTIONS = 6, 8


class RefusedError(Exception):
    """The frame is dropped, for one of these reasons."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__(*reasons)
        self.reasons = set(reasons)


def refuse(*reasons: Reason) -> NoReturn:
    raise RefusedError(*reasons)


def require(condition: object, reason: Reason) -> None:
    if not condition:
        refuse(reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Station:
    """A vNIC, its neighbors' addresses, and whether its policy accepts everything or nothing."""

    mac: bytes
    held: frozenset[bytes]
    """Its addresses, of 4 and 16 bytes."""
    others: frozenset[bytes]
    accepts: bool
    router: bool = False
    dhcp: bool = False
    tunnels: bool = False
    ethertypes: frozenset[int] = frozenset()

    def decide(self, frame: bytes, *, outwards: bool) -> set[Reason]:
        """Say for which reason, or one of which, the frame is dropped; NONE: it passes."""
        try:
            Frame(self, frame, outwards=outwards).inspect()
        except RefusedError as refused:
            return refused.reasons
        return {Reason.NONE}


@dataclasses.dataclass
class Datagram:
    """A packet behind its network headers."""

    version: int
    source: bytes
    target: bytes
    protocol: int
    body: bytes
    hops: int = 0
    first: int = 0
    more: bool = False
    torn: bool = False
    """It came behind a fragment header, or as an IPv4 fragment ..."""
    size: int = 0
    """... of so many bytes."""

    @property
    def whole(self) -> bool:
        return not self.first and not self.more


class Frame:
    def __init__(self, station: Station, frame: bytes, *, outwards: bool) -> None:
        self.station, self.outwards = station, outwards
        self.target, self.source, self.payload = frame[:6], frame[6:12], frame[14:]
        self.ethertype = int.from_bytes(frame[12:14], "big")

    @property
    def to_group(self) -> bool:
        return bool(self.target[0] & 1)

    def inspect(self) -> None:
        require(self.ethertype not in {0x8100, 0x88A8}, Reason.VLAN)
        if self.outwards:
            require(self.source == self.station.mac, Reason.FOREIGN_MAC)
        else:
            require(self.to_group or self.target == self.station.mac, Reason.NOT_ADDRESSED)
        require(self.ethertype >= 0x600, Reason.LLC)
        match self.ethertype:
            case 0x0806 | 0x8035:
                self.inspect_arp(self.payload)
            case 0x0800:
                self.inspect_datagram(self.read_ipv4(self.payload))
            case 0x86DD:
                self.inspect_datagram(self.read_ipv6(self.payload))
            case other:
                require(other in self.station.ethertypes, Reason.ETHERTYPE)

    def inspect_arp(self, packet: bytes) -> None:
        require(len(packet) >= 28 and packet[:6] == b"\0\1\x08\0\6\4", Reason.MALFORMED)
        operation, sender_mac, sender, target_mac = packet[6:8], packet[8:14], packet[14:18], packet[18:24]
        if not self.outwards:
            return
        require(sender_mac == self.station.mac, Reason.FOREIGN_ARP)
        require(sender in self.station.held | {bytes(4)}, Reason.FOREIGN_ARP)
        if self.ethertype == 0x8035:
            require((operation, target_mac) == (b"\0\3", self.station.mac), Reason.FOREIGN_ARP)

    def read_ipv4(self, packet: bytes) -> Datagram:
        require(len(packet) >= 20 and packet[0] >> 4 == 4, Reason.MALFORMED)
        header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        require(20 <= header <= total <= len(packet), Reason.MALFORMED)
        fragment = int.from_bytes(packet[6:8], "big")
        first, more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
        datagram = Datagram(4, packet[12:16], packet[16:20], packet[9], packet[header:total])
        datagram.first, datagram.more, datagram.torn, datagram.size = first, more, more or first > 0, total - header
        self.check_addresses(datagram)
        self.check_options(packet[20:header])
        return datagram

    @staticmethod
    def check_options(options: bytes) -> None:
        """RFC 791, 3.1; routes by the sender's wish are refused (RFC 7126, 4.3 and 4.4)."""
        while options and options[0]:
            require(options[0] not in {131, 137}, Reason.IP_OPTIONS)
            length = 1 if options[0] == 1 else options[1] if len(options) > 1 else 0
            require(options[0] == 1 or 2 <= length <= len(options), Reason.MALFORMED)
            options = options[length:]

    def read_ipv6(self, packet: bytes) -> Datagram:
        require(len(packet) >= 40 and packet[0] >> 4 == 6, Reason.MALFORMED)
        source, target, length = packet[8:24], packet[24:40], int.from_bytes(packet[4:6], "big")
        if source.startswith(MAPPED):
            refuse(Reason.FOREIGN_IP if self.outwards else Reason.MALFORMED)
        require(not target.startswith(MAPPED), Reason.MALFORMED if self.outwards else Reason.NOT_ADDRESSED)
        require(length <= len(packet) - 40, Reason.MALFORMED)
        datagram = Datagram(6, source, target, packet[6], packet[40 : 40 + length], hops=packet[7])
        walk(datagram)
        self.check_addresses(datagram)
        return datagram

    def check_addresses(self, datagram: Datagram) -> None:
        held = {address for address in self.station.held if len(address) == len(datagram.source)}
        if self.outwards:
            require(held and datagram.source in held | {bytes(len(datagram.source))}, Reason.FOREIGN_IP)
            return
        listens = self.to_group and datagram.target not in self.station.others and datagram.protocol != TCP
        require(datagram.target in held or listens, Reason.NOT_ADDRESSED)

    def inspect_datagram(self, datagram: Datagram) -> None:
        if not datagram.whole:
            require(datagram.size and not (datagram.more and datagram.size % 8), Reason.MALFORMED)
            require(datagram.first + datagram.size <= 65535, Reason.MALFORMED)
            require(not datagram.first, Reason.FRAGMENT)
        opens = read_transport(datagram)
        if self.outwards and not self.station.tunnels:
            require(not is_tunnel(datagram), Reason.TUNNEL)
        if datagram.protocol in {ICMP, ICMPV6}:
            opens = self.inspect_icmp(datagram)
        settled = opens is None or (datagram.protocol == UDP and self.inspect_dhcp(datagram))
        if settled:
            return
        if self.outwards:
            require(any(datagram.source), Reason.FOREIGN_IP)
        require(opens, Reason.NO_FLOW)
        require(self.station.accepts, Reason.DENIED)

    def inspect_icmp(self, datagram: Datagram) -> bool | None:
        """Say whether it may open a flow; None: it is nothing for policy."""
        kind, code = datagram.body[:2]
        require((datagram.version == 4) == (datagram.protocol == ICMP), Reason.ICMP_TYPE)
        if datagram.protocol == ICMPV6 and kind in NEIGHBORS | LISTENERS:
            self.inspect_link_service(datagram, kind)
            return None
        if kind in ERRORS[datagram.version]:  # there is nothing for it to be about
            refuse(Reason.NO_FLOW, Reason.MALFORMED, Reason.FRAGMENT, Reason.EXTENSION)
        require(kind in ECHO[datagram.version] and not code, Reason.ICMP_TYPE)
        return bool(kind == ECHO[datagram.version][0])

    def inspect_link_service(self, datagram: Datagram, kind: int) -> None:
        nobody = self.outwards and not any(datagram.source)
        require(not nobody or kind in SPEECHLESS, Reason.FOREIGN_IP)
        if kind in LISTENERS:
            here = not any(datagram.source) or (datagram.source[0] == 0xFE and datagram.source[1] & 0xC0 == 0x80)
            to_group = self.to_group and datagram.target[0] == 0xFF
            require(datagram.hops == 1 and here and (to_group or not self.outwards), Reason.ND_UNSAFE)
            return
        require(not datagram.torn and datagram.hops == 255, Reason.ND_UNSAFE)
        if not self.outwards:
            return
        if kind in {RA, REDIRECT}:
            require(self.station.router, Reason.ROUTER)
            return
        message = datagram.body
        require(len(message) >= (8 if kind == RS else 24), Reason.MALFORMED)
        if kind == NA or (kind == NS and nobody):
            require(message[8:24] in self.station.held, Reason.FOREIGN_ND)
        self.check_nd_options(message[8 if kind == RS else 24 :])

    def check_nd_options(self, options: bytes) -> None:
        for _ in range(MOST_OPTIONS):
            if not options:
                return
            require(len(options) >= 8 and 0 < options[1] * 8 <= len(options), Reason.MALFORMED)
            require(options[0] not in {1, 2} or options[1:8] == b"\1" + self.station.mac, Reason.FOREIGN_ND)
            options = options[options[1] * 8 :]
        require(not options, Reason.MALFORMED)

    def inspect_dhcp(self, datagram: Datagram) -> bool:
        """Say whether it passes without policy."""
        source, target = (int.from_bytes(datagram.body[at : at + 2], "big") for at in (0, 2))
        message = datagram.body[8:]
        return (self.inspect_dhcpv4 if datagram.version == 4 else self.inspect_dhcpv6)(
            datagram, (source, target), message
        )

    def inspect_dhcpv4(self, datagram: Datagram, ports: tuple[int, int], message: bytes) -> bool:
        mine = len(message) >= 34 and message[2] == 6 and message[28:34] == self.station.mac
        everybody = datagram.target == EVERYBODY
        if self.outwards:
            serves = ports == (67, 68) or (ports[1] == 68 and may_say(datagram, message, 2))
            require(not serves or self.station.dhcp, Reason.DHCP_SERVER)
            if ports != (68, 67):
                return serves
            require(mine and message[0] == 1, Reason.FOREIGN_DHCP)
            return everybody and self.target == BROADCAST
        if ports != (67, 68):
            return ports == (68, 67) and self.station.dhcp
        require(mine and message[0] == 2, Reason.FOREIGN_DHCP)
        return True

    def inspect_dhcpv6(self, datagram: Datagram, ports: tuple[int, int], message: bytes) -> bool:
        link_local = {address for address in self.station.held if address[:2] == b"\xfe\x80"}
        if self.outwards:
            serves = ports == (547, 546) or (ports[1] == 546 and may_say(datagram, message, 2, 7, 10))
            require(not serves or self.station.dhcp, Reason.DHCP_SERVER)
            if serves:
                return True
            return ports == (546, 547) and datagram.source in link_local and datagram.target in RELAYS6
        if ports == (546, 547) and self.station.dhcp:
            return True
        from_link = datagram.source[0] == 0xFE and datagram.source[1] & 0xC0 == 0x80
        return ports == (547, 546) and from_link and datagram.target in link_local


def may_say(datagram: Datagram, message: bytes, *kinds: int) -> bool:
    """Whether it is a message of one of these kinds; a fragment that does not tell may be."""
    first = message[0] if message else 0
    return first in kinds or (not first and not datagram.whole)


def walk(datagram: Datagram) -> None:
    """Step over extension headers; what is left is what the last one announces."""
    place = 0
    while datagram.protocol in {HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION, 135, 139, 140}:
        require(datagram.protocol not in {135, 139, 140} and place < MOST_HEADERS, Reason.EXTENSION)
        require(datagram.protocol != HOP_BY_HOP or not place, Reason.EXTENSION)
        header, short = datagram.body, Reason.MALFORMED if datagram.whole else Reason.FRAGMENT_SHORT
        require(len(header) >= 8, short)
        length = (header[1] + 1) * 8
        match datagram.protocol:
            case 44:
                require(not datagram.torn, Reason.EXTENSION)
                length, datagram.torn = 8, True
                offset = int.from_bytes(header[2:4], "big")
                datagram.first, datagram.more, datagram.size = offset & 0xFFF8, bool(offset & 1), len(header) - 8
            case 43:
                require(header[2] and not header[3], Reason.EXTENSION)
            case 51:
                length = (header[1] + 2) * 4
        require(len(header) >= length, short)
        datagram.protocol, datagram.body = header[0], header[length:]
        place += 1
        if datagram.first:
            return


def read_transport(datagram: Datagram) -> bool:
    """Say whether the packet may open a flow."""
    body, short = datagram.body, Reason.MALFORMED if datagram.whole else Reason.FRAGMENT_SHORT
    match datagram.protocol:
        case 6:
            require(len(body) >= 20, short)
            header = (body[12] >> 4) * 4
            require(header >= 20, Reason.MALFORMED)
            require(header <= len(body), short)
            require(body[13] & 0x37 in LEGAL_FLAGS, Reason.TCP_FLAGS)
            return body[13] & 0x12 == 0x02
        case 17:
            require(len(body) >= 8, short)
            length = int.from_bytes(body[4:6], "big")
            require(length >= 8, Reason.MALFORMED)
            require(length <= len(body) or not datagram.whole, Reason.MALFORMED)
        case 1 | 58:
            require(len(body) >= 8, short)
        case 132:
            return read_sctp(body, short)
    return True


def read_sctp(body: bytes, short: Reason) -> bool:
    require(len(body) >= 16, short)
    length = int.from_bytes(body[14:16], "big")
    if body[12] in {1, 2}:
        require(length >= 20 and len(body) >= 32 and any(body[16:20]), Reason.MALFORMED)
    if body[12] == 1:
        require(body[4:8] == bytes(4) and len(body) == 12 + (length + 3) // 4 * 4, Reason.MALFORMED)
    return body[12] == 1


def is_tunnel(datagram: Datagram) -> bool:
    port = int.from_bytes(datagram.body[2:4], "big")
    return datagram.protocol in TUNNEL_PROTOCOLS or (datagram.protocol == UDP and port in TUNNEL_PORTS)
