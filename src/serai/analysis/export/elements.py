"""The information elements that Serai tells (IANA's registry of IPFIX entities), and the templates that they make.

Serai has no private enterprise number, so all of them are IANA's. Those of the way back have the same numbers under the number that
RFC 5103 reserves for it.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

REVERSE: Final = 29305
"""The private enterprise number of elements that tell of the way back (RFC 5103, 6.1)."""
VARIABLE: Final = 0xFFFF
"""The length of elements that bring their own (RFC 7011, 7)."""
TEMPLATE_SET, OPTIONS_SET, SET_HEADER_BYTES = 2, 3, 4
_ENTERPRISE: Final = 0x8000


@dataclasses.dataclass(frozen=True, slots=True)
class Element:
    """One kind of value."""

    number: int
    size: int
    """``VARIABLE`` for texts."""
    enterprise: int = 0

    @property
    def back(self) -> Element:
        """The same of the way back."""
        return dataclasses.replace(self, enterprise=REVERSE)

    @property
    def specifier(self) -> bytes:
        """As it stands in a template (RFC 7011, 3.2)."""
        if self.enterprise:
            return struct.pack(">HHI", self.number | _ENTERPRISE, self.size, self.enterprise)
        return struct.pack(">HH", self.number, self.size)


_NUMBERED: Final = {1: "u1", 2: ">u2", 4: ">u4", 8: ">u8"}
_OCTETS, _PACKETS, _FRAMES = Element(1, 8), Element(2, 8), Element(352, 8)
_FLAGS: Final = Element(6, 1)
"""tcpControlBits: of two bytes, but its upper half is none that a gate keeps (reduced size, RFC 7011, 6.2)."""

_WHEN: Final[Mapping[str, Element]] = {"flowStartMilliseconds": Element(152, 8), "flowEndMilliseconds": Element(153, 8)}
_ENDS: Final[Mapping[int, Mapping[str, Element]]] = {
    4: {"sourceIPv4Address": Element(8, 4), "destinationIPv4Address": Element(12, 4)},
    6: {"sourceIPv6Address": Element(27, 16), "destinationIPv6Address": Element(28, 16)},
}
_PORTS: Final[Mapping[str, Element]] = {
    "sourceTransportPort": Element(7, 2), "destinationTransportPort": Element(11, 2), "tcpControlBits": _FLAGS, "reverseTcpControlBits": _FLAGS.back,
}  # fmt: skip
_MESSAGE: Final[Mapping[int, Mapping[str, Element]]] = {
    4: {"icmpTypeCodeIPv4": Element(32, 2)},
    6: {"icmpTypeCodeIPv6": Element(139, 2)},
}
_REST: Final[Mapping[str, Element]] = {
    "protocolIdentifier": Element(4, 1), "flowDirection": Element(61, 1), "biflowDirection": Element(239, 1), "forwardingStatus": Element(89, 1), "flowEndReason": Element(136, 1),
    "octetDeltaCount": _OCTETS, "packetDeltaCount": _PACKETS, "layer2OctetDeltaCount": _FRAMES,
    "reverseOctetDeltaCount": _OCTETS.back, "reversePacketDeltaCount": _PACKETS.back, "reverseLayer2OctetDeltaCount": _FRAMES.back,
    "observationPointId": Element(138, 8),
}  # fmt: skip
_TEXTS: Final[Mapping[str, Element]] = {
    "virtualStationInterfaceName": Element(349, VARIABLE), "virtualStationName": Element(350, VARIABLE),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What stands in records of one kind, in this order: first what has a fixed size, then texts."""

    number: int
    version: int
    """Of IP."""
    elements: Mapping[str, Element]

    @property
    def specifier(self) -> bytes:
        """As collectors are told of it."""
        fields = [each.specifier for each in self.elements.values()]
        return struct.pack(">HH", self.number, len(fields)) + b"".join(fields)

    @property
    def fixed(self) -> np.dtype[Any]:
        """The part of a fixed size, as numpy has it."""
        return np.dtype(
            [
                (name, _NUMBERED.get(each.size, f"V{each.size}") if name not in self.ends else f"V{each.size}")
                for name, each in self.elements.items()
                if each.size != VARIABLE
            ]
        )

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the elements that hold source and destination."""
        source, destination = _ENDS[self.version]
        return source, destination

    @property
    def message(self) -> str:
        """Name of the element that holds type and code of ICMP, where there is one."""
        return next((name for name in _MESSAGE[self.version] if name in self.elements), "")


PORTS, MESSAGES, BARE = range(3)
"""Kinds of records: with ports, of ICMP, and with neither."""
_MIDDLE: Final = {PORTS: {4: _PORTS, 6: _PORTS}, MESSAGES: _MESSAGE, BARE: {4: {}, 6: {}}}


def place_of(kind: int, version: int) -> int:
    """Say where in ``TEMPLATES`` records of a kind and a version of IP have theirs."""
    return kind * 2 + (version == 6)  # noqa: PLR2004 (a version of IP)


TEMPLATES: Final = tuple(
    Template(
        number=256 + place_of(kind, version),
        version=version,
        elements={**_WHEN, **_ENDS[version], **_MIDDLE[kind][version], **_REST, **_TEXTS},
    )
    for kind in (PORTS, MESSAGES, BARE)
    for version in (4, 6)
)

HOST_TEMPLATE: Final = 256 + len(TEMPLATES)
_DOMAIN, _DOMAIN_NAME = Element(149, 4), Element(300, VARIABLE)
HOST_SPECIFIER: Final = struct.pack(">HHH", HOST_TEMPLATE, 2, 1) + _DOMAIN.specifier + _DOMAIN_NAME.specifier
"""An options template: what an observation domain is called (observationDomainName, within observationDomainId)."""
