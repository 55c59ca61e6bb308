"""The grammar of ports: ``tcp/443``, ``tcp/8000-8099``, ``udp``, ``sctp/3868``, ``icmpv6/1.4``, ``47``, ``any``."""

from __future__ import annotations

import re

from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.tenancy import is_name

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
PROTOCOLS = {"icmp": ICMP, "icmpv6": ICMPV6, "sctp": SCTP, "tcp": TCP, "udp": UDP}
"""The protocols that have a name here (IANA numbers); all others are written as numbers."""

WITH_PORTS = frozenset({TCP, UDP, SCTP})
"""The protocols whose packets carry a port at each end."""
FIRST_DYNAMIC = 49152
"""From here on ports are for the passing use of anybody, and nobody is assigned one (RFC 6335, 6)."""
LAST_PORT = 65535
ECHO_REQUEST = {ICMP: 8 << 8, ICMPV6: 128 << 8}
"""The "port" of a ping, by protocol: the one message of either that opens anything."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ICMP = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_LAST_BYTE = 255


def parse_ports(text: str) -> PortRange | None:
    """Read one entry of a ``ports`` list; None where it can only be the name of a Service.

    Raises:
        ValueError: it is neither.
    """
    protocol, slash, ports = text.partition("/")
    if slash and not protocol:
        return None
    number = PROTOCOLS.get(protocol)
    if number in WITH_PORTS:
        return _with_ports(text, number, ports if slash else None)
    if number in ECHO_REQUEST:
        return _icmp(text, number, ports if slash else None)
    if re.fullmatch(r"[0-9]{1,3}", protocol) and int(protocol) <= _LAST_BYTE and not slash:
        return PortRange(protocol=int(protocol))
    if text == "any":
        return PortRange(protocol=ANY_PROTOCOL)
    if is_name(text) and not text.isdecimal():
        return None
    message = (
        f"{text!r} is not a port: write tcp/443, tcp/8000-8099, udp, sctp, icmp/8, icmpv6/128, "
        "a protocol number from 0 to 255, any, or the name of a Service"
    )
    raise ValueError(message)


def format_ports(ports: PortRange) -> str:
    """Write a range in the grammar that ``parse_ports`` reads."""
    if ports.protocol == ANY_PROTOCOL:
        return "any"
    name = _NAMES.get(ports.protocol, str(ports.protocol))
    if (ports.first, ports.last) == (0, LAST_PORT):
        return name
    if ports.protocol in ECHO_REQUEST:
        kind, code = divmod(ports.first, 256)
        return f"{name}/{kind}" if ports.first != ports.last else f"{name}/{kind}.{code}"
    return f"{name}/{ports.first}" + ("" if ports.first == ports.last else f"-{ports.last}")


def _with_ports(text: str, protocol: int, ports: str | None) -> PortRange:
    if ports is None:
        return PortRange(protocol=protocol)
    match = _PORTS.fullmatch(ports)
    if not match:
        name = _NAMES[protocol]
        message = f"{text!r} is not a port: write {name}/443, {name}/8000-8099, or {name} alone for every port"
        raise ValueError(message)
    first, last = int(match[1]), int(match[2] or match[1])
    if last > LAST_PORT or first > LAST_PORT:
        message = f"{text!r} is not a port: ports go from 0 to {LAST_PORT}"
        raise ValueError(message)
    if first > last:
        message = f"{text!r} is empty: the range runs backwards"
        raise ValueError(message)
    return PortRange(protocol=protocol, first=first, last=last)


def _icmp(text: str, protocol: int, ports: str | None) -> PortRange:
    if ports is None:
        return PortRange(protocol=protocol)
    match = _ICMP.fullmatch(ports)
    if not match or int(match[1]) > _LAST_BYTE or int(match[2] or 0) > _LAST_BYTE:
        example = "icmpv6/128 or icmpv6/1.4" if protocol == ICMPV6 else "icmp/8 or icmp/3.4"
        message = f"{text!r} is not an ICMP type: write {example} (type.code), each 0 to 255"
        raise ValueError(message)
    first = int(match[1]) * 256 + int(match[2] or 0)
    return PortRange(protocol=protocol, first=first, last=first if match[2] else first + _LAST_BYTE)
