"""Why a gate dropped a packet. The one list: the C header is generated from it."""

from __future__ import annotations

import enum
from typing import Self


class Reason(enum.IntEnum):
    """A stable number for every drop. Numbers are never reused; new ones go at the end."""

    NONE = 0, "not dropped"
    UNKNOWN_VNIC = 1, "no vNIC is known behind this tap: the gate is closed"
    MALFORMED = 2, "the frame ends before its headers do, or a header contradicts itself"
    FOREIGN_MAC = 3, "the source MAC is not this vNIC's"
    FOREIGN_IP = 4, "the source address is not this vNIC's"
    FOREIGN_ARP = 5, "the ARP sender is not this vNIC"
    ETHERTYPE = 6, "the ethertype is not one that this vNIC may use"
    VLAN = 7, "the frame carries a VLAN tag on an access vNIC"
    FRAGMENT = 8, "the fragment belongs to no datagram whose first fragment was let through"
    NO_FLOW = 9, "the packet belongs to no known flow and cannot open one"
    DENIED = 10, "a rule denies it"
    NO_RULESET = 11, "the rulesets for this vNIC are not loaded: the gate is closed"
    FLOW_QUOTA = 12, "the vNIC holds as many flows as it may"
    NOT_ADDRESSED = 13, "the destination address is not this vNIC's"
    ICMP_TYPE = 14, "the ICMP type neither opens a flow nor belongs to one"
    LLC = 15, "an 802.3 frame (LLC or SNAP)"
    FOREIGN_ND = 16, "the neighbor discovery message speaks for an address or a MAC that is not this vNIC's"
    ND_UNSAFE = 17, "the neighbor discovery message is fragmented or comes from beyond the link (RFC 6980, RFC 4861)"
    ROUTER = 18, "a router advertisement or redirect from a vNIC that is no router"
    DHCP_SERVER = 19, "a DHCP server's message from a vNIC that serves no DHCP"
    FOREIGN_DHCP = 20, "the DHCP message is about a MAC that is not this vNIC's"
    FLOW_RATE = 21, "the vNIC opens more flows a second than it may"
    FRAGMENT_OVERLAP = 22, "the fragment overlaps another of its datagram, or follows one that did"
    FRAGMENT_SHORT = 23, "the first fragment ends before the transport header does"
    EXTENSION = 24, "IPv6 extension headers that are too many, out of place, or of a kind that is not carried"
    IP_OPTIONS = 25, "an IP option routes the packet by its source's wish (RFC 7126)"
    TCP_FLAGS = 26, "no TCP segment has this combination of flags"
    OUT_OF_WINDOW = 27, "the TCP sequence number, or the SCTP tag, is not one that the connection expects"
    TUNNEL = 28, "a tunnel's packet from a vNIC that may not tunnel"

    description: str

    def __new__(cls, number: int, description: str = "") -> Self:
        """Make a member out of its number and what it tells a person."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.description = description
        return member


REASON_SLOTS = 64
"""How many reasons a gate's counters have room for."""
