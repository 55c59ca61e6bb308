"""What was seen: conversations, each kind once, summed over the time asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Self

from serai.model.address import Address
from serai.model.flow_record import Verdict
from serai.model.policy import Direction, PortRange
from serai.model.ports import ECHO_REQUEST, FIRST_DYNAMIC, LAST_PORT, WITH_PORTS

DYNAMIC: Final = (FIRST_DYNAMIC, LAST_PORT)
"""The first and the last port for the passing use of anybody (RFC 6335)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Conversations of one kind as the gate at one end told them: who, to whom, on which port, and what became of it."""

    source: str | None
    """Path of the VM that opened them; None where no VM had the address."""
    source_address: Address | None = None
    """None: not told, one of the VM's own. Of one conversation, both gates tell it or none does."""
    target: str | None
    """Path of the VM that they were opened to; None where no VM had the address."""
    target_address: Address | None = None
    """As for the source."""
    network: str = ""
    """Path of the network of the vNIC that told; empty where it was not told."""
    protocol: int
    """IANA number."""
    port: int
    """What policy judged; for ICMP and ICMPv6 ``type * 256 + code``; for TCP, UDP and SCTP 0 where it was one of the dynamic
    ports, which records do not tell apart."""
    verdict: Verdict
    side: Direction
    """Whose gate told: egress the source's, ingress the target's."""
    connections: int
    """That began in that time; 0 where all of them had begun before."""
    unanswered: int = 0
    """Of these, those that nobody answered, or a reset refused."""
    packets: int = 0
    bytes: int = 0
    """Of frames, in both directions."""
    first: datetime
    last: datetime
    rule: str = ""
    """What decided, by its text; empty where it was not told."""

    @property
    def service(self) -> PortRange:
        """What it was opened to."""
        return _service(self.protocol, self.port)


@functools.cache
def _service(protocol: int, port: int) -> PortRange:
    if protocol in WITH_PORTS and port == 0:
        return PortRange(protocol=protocol, first=DYNAMIC[0], last=DYNAMIC[1])
    if port == ECHO_REQUEST.get(protocol):  # gates carry code 0 alone
        return PortRange(protocol=protocol, first=port, last=port + 255)
    if protocol in WITH_PORTS or protocol in ECHO_REQUEST:
        return PortRange(protocol=protocol, first=port, last=port)
    return PortRange(protocol=protocol)


def service_order(service: PortRange) -> tuple[int, int, int]:
    """By what services are sorted: TCP and its like as they are numbered."""
    return service.protocol, service.first, service.last


def covers(outer: PortRange, inner: PortRange) -> bool:
    """Say whether every port of ``inner`` is one of ``outer``."""
    return outer.protocol == inner.protocol and outer.first <= inner.first and inner.last <= outer.last


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much of something was seen."""

    connections: int
    unanswered: int
    packets: int
    bytes: int
    first: datetime
    last: datetime

    @classmethod
    def of(cls, conversation: Conversation) -> Self:
        """Take what one conversation counts."""
        return cls(
            connections=conversation.connections,
            unanswered=conversation.unanswered,
            packets=conversation.packets,
            bytes=conversation.bytes,
            first=conversation.first,
            last=conversation.last,
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            connections=self.connections + other.connections,
            unanswered=self.unanswered + other.unanswered,
            packets=self.packets + other.packets,
            bytes=self.bytes + other.bytes,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
        )

    def __or__(self, other: Self) -> Self:
        """Join what two gates told of the same conversations: each counts all of them, or what came through to it."""
        return type(self)(
            connections=max(self.connections, other.connections),
            unanswered=max(self.unanswered, other.unanswered),
            packets=max(self.packets, other.packets),
            bytes=max(self.bytes, other.bytes),
            first=min(self.first, other.first),
            last=max(self.last, other.last),
        )


def total(amounts: Iterable[Amount]) -> Amount:
    """Sum up.

    Raises:
        ValueError: there is nothing to sum up.
    """
    found = list(amounts)
    if not found:
        message = "nothing was seen"
        raise ValueError(message)
    return Amount(
        connections=sum(amount.connections for amount in found),
        unanswered=sum(amount.unanswered for amount in found),
        packets=sum(amount.packets for amount in found),
        bytes=sum(amount.bytes for amount in found),
        first=min(amount.first for amount in found),
        last=max(amount.last for amount in found),
    )
