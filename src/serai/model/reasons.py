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
    ETHERTYPE = 6, "the ethertype is not carried (only IPv4 and ARP are, untagged)"
    VLAN = 7, "the frame carries a VLAN tag on an access vNIC"
    FRAGMENT = 8, "the datagram is a fragment"
    NO_FLOW = 9, "the packet belongs to no known flow and cannot open one"
    DENIED = 10, "a rule denies it"
    NO_RULESET = 11, "the rulesets for this vNIC are not loaded: the gate is closed"
    FLOW_QUOTA = 12, "the vNIC holds as many flows as it may"
    NOT_ADDRESSED = 13, "the destination address is not this vNIC's"
    ICMP_TYPE = 14, "the ICMP type neither opens a flow nor belongs to one"

    description: str

    def __new__(cls, number: int, description: str = "") -> Self:
        """Make a member out of its number and what it tells a person."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.description = description
        return member


REASON_SLOTS = 32
"""How many reasons a gate's counters have room for."""
