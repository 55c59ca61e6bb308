"""Builds frames byte by byte, good ones and bad ones."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

IPV4, ARP, RARP, VLAN, QINQ, IPV6 = 0x0800, 0x0806, 0x8035, 0x8100, 0x88A8, 0x86DD
ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, ACK = 1, 2, 4, 16
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text: str) -> bytes:
    """Six bytes of an address, group addresses included."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, target: str, ethertype: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", ethertype) + payload


def ipv4(  # a header has that many fields
    source: str, target: str, protocol: int, payload: bytes, *, fragment: int = 0, options: bytes = b"",
    total: int | None = None, ihl: int | None = None,
) -> bytes:  # fmt: skip
    """An IPv4 packet; ``fragment`` is flags and offset, ``total`` and ``ihl`` override what is true."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total is None else total
    return (
        struct.pack(
            "!BBHHHBBH4s4s", 4 << 4 | (words if ihl is None else ihl), 0, length, 1, fragment, 64, protocol, 0,
            IPv4Address(source).packed, IPv4Address(target).packed,
        )
        + options
        + payload
    )  # fmt: skip


def tcp(source: int, target: int, flags: int, payload: bytes = b"", *, offset: int = 5) -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, 1, 1, offset << 4, flags, 500, 0, 0) + payload


def udp(source: int, target: int, payload: bytes = b"payload") -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def icmp(kind: int, code: int = 0, identifier: int = 7, payload: bytes = b"") -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, identifier, 1) + payload


def icmp_error(kind: int, code: int, quoted: bytes) -> bytes:
    """An error that quotes the IP header and the first 8 bytes of what it is about (RFC 792)."""
    return struct.pack("!BBHI", kind, code, 0, 0) + quoted[: (quoted[0] & 15) * 4 + 8]


def arp(  # noqa: PLR0917  # in the order of the packet
    operation: int, sender_mac: str, sender: str, target: str, target_mac: str = "00:00:00:00:00:00",
    lengths: tuple[int, int] = (6, 4),
) -> bytes:  # fmt: skip
    return (
        struct.pack("!HHBBH", 1, IPV4, *lengths, operation)
        + mac(sender_mac)
        + IPv4Address(sender).packed
        + mac(target_mac)
        + IPv4Address(target).packed
        + bytes(18)
    )
