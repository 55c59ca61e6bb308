"""One flow record: what one gate counted of one conversation in one interval, as agents tell it and as it is kept.

A record says what came *since the one before* (a delta), so that sums over any time are right. Each conversation between two guarded VMs
is told twice, by the gate at either end, each from its own side: ``local`` is the end of the vNIC, ``out`` is from its VM.
The one list of columns: the Arrow schema of agents, the table of the flow store and the names of filters follow from it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Final

import numpy as np


class Kind(enum.Enum):
    """What values a column has: the name is Arrow's, the value numpy's type."""

    UINT8 = "u1"
    UINT16 = "<u2"
    UINT32 = "<u4"
    UINT64 = "<u8"
    ADDRESS = "V16"
    """16 bytes, IPv4 in the mapped form (``model/address.py``); fixed_size_binary(16)."""


class Event(enum.IntFlag):
    """What a record tells of its conversation, beside the numbers."""

    BEGINS = 1
    ENDS = 2


class Verdict(enum.IntEnum):
    """What became of the packets; see ``flow.Outcome``."""

    ACCEPTED = 0
    DENIED = 1
    """Dropped, for the reason that the record gives."""
    OBSERVED = 2
    """Would have been dropped; the vNIC only observes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of a record."""

    kind: Kind
    meaning: str


FLOW_COLUMNS: Final[Mapping[str, Column]] = {
    "at": Column(Kind.UINT32, "end of the interval, seconds since 1970 by the host's clock"),
    "vnic": Column(Kind.UINT64, "whose gate counted (VnicId)"),
    "event": Column(Kind.UINT8, "bits: 1 the conversation began in this interval, 2 it ended; 0 for drops"),
    "direction": Column(Kind.UINT8, "who opened it: 0 egress (the VM), 1 ingress (the other end)"),
    "protocol": Column(Kind.UINT8, "IANA number; 0 where the frame was not IP"),
    "local": Column(Kind.ADDRESS, "the VM's end; :: where it was not read"),
    "remote": Column(Kind.ADDRESS, "the other end; of drops, the last one that was seen"),
    "local_port": Column(Kind.UINT16, "0 where there is none, and for drops"),
    "remote_port": Column(Kind.UINT16, "likewise"),
    "service": Column(Kind.UINT16, "the port that policy judged; for ICMP and ICMPv6 type * 256 + code"),
    "own_identity": Column(Kind.UINT64, "who the VM is to policy; 0 where nobody tells it apart"),
    "identity": Column(Kind.UINT64, "who the other end is to policy; 0 likewise"),
    "verdict": Column(Kind.UINT8, "see Verdict"),
    "staged": Column(Kind.UINT8, "the verdict with staged policies in force"),
    "reason": Column(Kind.UINT8, "why packets were, or would have been, dropped (model/reasons.py); 0: they passed"),
    "rule": Column(Kind.UINT64, "the rule that decided (RuleRef.id); 0 where none was asked"),
    "packets_out": Column(Kind.UINT64, "from the VM in this interval, tried or passed"),
    "packets_in": Column(Kind.UINT64, "to the VM"),
    "bytes_out": Column(Kind.UINT64, "bytes of frames from the VM"),
    "bytes_in": Column(Kind.UINT64, "bytes of frames to the VM"),
    "connections": Column(Kind.UINT32, "conversations that began: 1 in the record that says so, else 0"),
    "age_ms": Column(Kind.UINT32, "first packet ever, milliseconds before the end of the interval"),
    "idle_ms": Column(Kind.UINT32, "last packet, likewise"),
    "flags_out": Column(Kind.UINT8, "TCP flags that the VM has sent so far"),
    "flags_in": Column(Kind.UINT8, "TCP flags that the other end has sent so far"),
    "rtt_us": Column(
        Kind.UINT32, "SYN to SYN-ACK as the gate saw them, microseconds, in the first record that knows it; else 0"
    ),
    "syn_repeats": Column(Kind.UINT16, "SYNs sent once more in this interval"),
    "unanswered": Column(Kind.UINT8, "1 once: a SYN had no answer for three seconds, or for as long as its flow lived"),
    "refused": Column(Kind.UINT8, "1 once: the answer to the SYN was a reset"),
}
"""What an agent tells, in this order."""

NAMED_COLUMNS: Final[Mapping[str, str]] = {
    "host": "the host, by the name in its certificate",
    "tenant": "the tenant of the VM; empty for the provider's own, and where the vNIC is not known",
    "network": "path of the vNIC's network",
    "vm": "the VM as it was then (a number of the inventory by time); 0: not known",
    "peer": "the VM that had the other end's address then, likewise; 0: none of this site",
    "abroad": "1 where that is a VM of another tenant",
}
"""What the controller adds, from its inventory at that time; texts but ``vm`` and ``peer``, which are UINT64, and ``abroad``, UINT8."""

DROP_COLUMNS: Final[Mapping[str, Column]] = {
    "at": FLOW_COLUMNS["at"],
    "vnic": Column(Kind.UINT64, "whose gate dropped; 0: nobody is known behind the tap"),
    "direction": Column(Kind.UINT8, "of the packets: 0 from the VM, 1 to it"),
    "reason": FLOW_COLUMNS["reason"],
    "packets": Column(Kind.UINT64, "dropped (or, observing, would have been) in this interval"),
}
"""Every dropped packet, by reason; flow records tell of as many of them as there was room for."""

SIGHTING_COLUMNS: Final[Mapping[str, Column]] = {
    "at": FLOW_COLUMNS["at"],
    "vnic": Column(Kind.UINT64, "whose gate saw it"),
    "kind": Column(Kind.UINT8, "see Sighting"),
    "direction": Column(Kind.UINT8, "0 from the VM, 1 to it"),
    "packets": Column(Kind.UINT32, "in this interval"),
    "address": Column(Kind.ADDRESS, "of the last: what was asked for, offered or claimed; :: where nothing was"),
}
"""What gates saw of the protocols that make a link work, by kind."""


class Sighting(enum.IntEnum):
    """A message that a link needs to work, as gates count them."""

    ARP_REQUEST = 1
    ARP_REPLY = 2
    NEIGHBOR_SOLICITATION = 3
    NEIGHBOR_ADVERTISEMENT = 4
    ROUTER_SOLICITATION = 5
    ROUTER_ADVERTISEMENT = 6
    DHCP_DISCOVER = 7
    DHCP_OFFER = 8
    DHCP_REQUEST = 9
    DHCP_DECLINE = 10
    DHCP_ACK = 11
    DHCP_NAK = 12
    DHCP_RELEASE = 13
    DHCP_INFORM = 14
    DHCPV6_ASKED = 15
    """Any message of a DHCPv6 client."""
    DHCPV6_ANSWERED = 16
    """Any message of a DHCPv6 server."""


def layout(columns: Mapping[str, Column]) -> np.dtype[Any]:
    """Return numpy's type of records with these columns, in their order and without gaps."""
    return np.dtype([(name, column.kind.value) for name, column in columns.items()])


BATCH_RECORDS: Final = 4096
"""Records of each sort in one batch of an agent at the most: it stays below what an agent may say at once."""
