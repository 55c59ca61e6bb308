"""Frames that open connections: what stands for a question when the gate is asked."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from frames import IPV4, IPV6, SYN, ethernet, icmp, ipv4, tcp, udp
from policies import ICMP, ICMPV6, SCTP, TCP, UDP
from questions import Question

from serai.model.address import Address
from serai.model.policy import Direction

NEIGHBOUR = "52:54:00:00:00:fe"
INIT = 1
"""The SCTP chunk that opens an association (RFC 9260, 3.3.2)."""


def body(protocol: int, source: int, port: int) -> bytes:
    """A payload that opens a connection."""
    if protocol == SCTP:
        chunk = struct.pack("!BBHIIHHI", INIT, 0, 20, 1, 65536, 1, 1, 1)
        return struct.pack("!HHII", source, port, 0, 0) + chunk
    known = {
        TCP: tcp(source, port, SYN), UDP: udp(source, port), ICMP: icmp(8, identifier=source),
        ICMPV6: icmp(128, identifier=source),
    }  # fmt: skip
    return known.get(protocol, b"payload!")


def packet(source: Address, target: Address, protocol: int, payload: bytes) -> tuple[int, bytes]:
    """Ethertype and packet, of the version that the addresses have."""
    if isinstance(source, IPv6Address):
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return IPV6, head + source.packed + target.packed + payload
    return IPV4, ipv4(str(source), str(target), protocol, payload)


def frame(question: Question, source: int, mine: Address | None = None) -> bytes:
    """A packet that opens the connection asked about, from or to ``mine`` or else the vNIC's first fitting address."""
    vnic, mine = question.vnic, mine or question.mine
    assert mine
    payload = body(question.protocol, source, question.port)
    if question.direction is Direction.EGRESS:
        return ethernet(vnic.mac, NEIGHBOUR, *packet(mine, question.remote, question.protocol, payload))
    return ethernet(NEIGHBOUR, vnic.mac, *packet(question.remote, mine, question.protocol, payload))
