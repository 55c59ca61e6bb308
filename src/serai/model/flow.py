"""Flows as they leave a gate: what was counted, between whom, and what policy said."""

from __future__ import annotations

import dataclasses
import enum
from ipaddress import IPv6Address

from serai.model.address import Address
from serai.model.inventory import VnicId
from serai.model.policy import Direction
from serai.model.reasons import Reason


class IdleSeconds(enum.IntEnum):
    """How long a flow may be silent before it is over, unless the agent's config says otherwise.

    The one list: the C header is generated from it.
    """

    TCP_ESTABLISHED = 7440
    """RFC 5382, REQ-5: at least 2 hours 4 minutes."""
    TCP_OPENING = 60
    """Only one side has spoken; of SCTP too."""
    TCP_CLOSING = 10
    """A reset, or a FIN from both sides; the end of an SCTP association."""
    TCP_HALF_CLOSED = 240
    """One side has said FIN, the other may go on (RFC 5382, REQ-5: at least 4 minutes)."""
    SCTP_ESTABLISHED = 300
    """Ten times the interval at which an idle association shows that it lives (RFC 9260, 16: HB.interval 30 s)."""
    ICMP = 60
    """RFC 5508, REQ-1: at least 60 seconds."""
    OTHER = 180
    """UDP (RFC 4787, REQ-5: at least 2 minutes) and protocols without ports."""


IDLE_CLASSES = tuple(IdleSeconds.__members__)
"""The names in the order in which the gate numbers them."""


FRAGMENTS_SECONDS = 30
"""How long the rest of a datagram may take: as long as receivers wait, mostly (RFC 791: 15 s at least)."""
FLOWS_OF_A_VNIC = 8192
"""How many flows one vNIC may hold, where neither it nor the host's config says otherwise."""
NEW_FLOWS_A_SECOND = 10000
"""How many it may open a second, and others to it, likewise."""


class Outcome(enum.StrEnum):
    """What became of the packets of a row."""

    ACCEPTED = "accepted"
    DENIED = "denied"
    """Dropped, for the reason that the row gives."""
    OBSERVED = "observed"
    """Would have been dropped; the vNIC only observes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FlowRow:
    """What one gate counted of one conversation, or of packets it dropped."""

    vnic: VnicId
    direction: Direction
    """Which side opened it: egress from the VM, ingress to it."""
    remote: Address
    """The other end; of dropped packets, the last one that was seen."""
    identity: int
    """Who the other end is to policy; 0 for everybody not told apart."""
    protocol: int
    """IANA number; 0 where the frame was not IP."""
    port: int
    """The service's port; for ICMP and ICMPv6 type * 256 + code."""
    packets_out: int
    """From the VM, tried or passed."""
    packets_in: int
    bytes_out: int
    bytes_in: int
    outcome: Outcome
    reason: Reason
    rule: int
    """The number of the rule that decided, 0 where none was asked."""
    staged: Outcome
    """What would have become of it with the staged policies in force."""
    age_seconds: float
    """Since its last packet."""
    connections: int = 1
    """How many conversations the row sums up."""


UNREAD = IPv6Address("::")
"""Stands for an end that was never read, because the frame was dropped before."""
DIRECTIONS = (Direction.EGRESS, Direction.INGRESS)
"""By the gate's number for them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DropCount:
    """How many packets one gate dropped (or, observing, would have dropped) for one reason, ever."""

    vnic: VnicId
    """0 stands for taps behind which no vNIC is known."""
    direction: Direction
    reason: Reason
    packets: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DropSample:
    """One packet that a gate dropped or, observing, would have dropped."""

    vnic: VnicId
    """0 stands for taps behind which no vNIC is known."""
    age_seconds: float
    direction: Direction
    """Of the packet."""
    reason: Reason
    observed: bool
    """It passed, because the vNIC only observes."""
    local: Address
    """The VM's end, as far as the packet could be read; else ``UNREAD``, as the remote one."""
    remote: Address
    local_port: int
    remote_port: int
    protocol: int
    """IANA number; 0 where the frame was not IP."""
    port: int
    """As judged: the service's port; for ICMP and ICMPv6 type * 256 + code."""
    length: int
    """Bytes of the frame."""
    tcp_flags: int
    rule: int
    """The number of the rule that decided, 0 where none was asked."""
