"""The grammar of ports: ``tcp/443``, ``tcp/8000-8099``, ``udp``, ``icmp/3.4``, ``47``, ``any``."""

from __future__ import annotations

import re

from serai.model.policy import ANY_PROTOCOL, PortRange
from serai.model.tenancy import is_name

ICMP, TCP, UDP = 1, 6, 17
PROTOCOLS = {"icmp": ICMP, "tcp": TCP, "udp": UDP}
"""The protocols that have a name here (IANA numbers); all others are written as numbers."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ICMP = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_LAST_PORT = 65535
_LAST_BYTE = 255


def parse_ports(text: str) -> PortRange | None:
    """Read one entry of a ``ports`` list; None where it can only be the name of a Service.

    Raises:
        ValueError: it is neither.
    """
    protocol, slash, ports = text.partition("/")
    if slash and not protocol:
        return None
    if protocol in ("tcp", "udp"):
        return _with_ports(text, PROTOCOLS[protocol], ports if slash else None)
    if protocol == "icmp":
        return _icmp(text, ports if slash else None)
    if re.fullmatch(r"[0-9]{1,3}", protocol) and int(protocol) <= _LAST_BYTE and not slash:
        return PortRange(protocol=int(protocol))
    if text == "any":
        return PortRange(protocol=ANY_PROTOCOL)
    if is_name(text) and not text.isdecimal():
        return None
    message = (
        f"{text!r} is not a port: write tcp/443, tcp/8000-8099, udp, icmp/8, "
        "a protocol number from 0 to 255, any, or the name of a Service"
    )
    raise ValueError(message)


def format_ports(ports: PortRange) -> str:
    """Write a range in the grammar that ``parse_ports`` reads."""
    if ports.protocol == ANY_PROTOCOL:
        return "any"
    name = _NAMES.get(ports.protocol, str(ports.protocol))
    if (ports.first, ports.last) == (0, _LAST_PORT):
        return name
    if ports.protocol == ICMP:
        kind, code = divmod(ports.first, 256)
        return f"icmp/{kind}" if ports.first != ports.last else f"icmp/{kind}.{code}"
    return f"{name}/{ports.first}" + ("" if ports.first == ports.last else f"-{ports.last}")


def _with_ports(text: str, protocol: int, ports: str | None) -> PortRange:
    if ports is None:
        return PortRange(protocol=protocol)
    match = _PORTS.fullmatch(ports)
    if not match:
        message = f"{text!r} is not a port: write tcp/443, tcp/8000-8099, or tcp alone for every port"
        raise ValueError(message)
    first, last = int(match[1]), int(match[2] or match[1])
    if last > _LAST_PORT or first > _LAST_PORT:
        message = f"{text!r} is not a port: ports go from 0 to {_LAST_PORT}"
        raise ValueError(message)
    if first > last:
        message = f"{text!r} is empty: the range runs backwards"
        raise ValueError(message)
    return PortRange(protocol=protocol, first=first, last=last)


def _icmp(text: str, ports: str | None) -> PortRange:
    if ports is None:
        return PortRange(protocol=ICMP)
    match = _ICMP.fullmatch(ports)
    if not match or int(match[1]) > _LAST_BYTE or int(match[2] or 0) > _LAST_BYTE:
        message = f"{text!r} is not an ICMP type: write icmp/8 or icmp/3.4 (type.code), each 0 to 255"
        raise ValueError(message)
    first = int(match[1]) * 256 + int(match[2] or 0)
    return PortRange(protocol=ICMP, first=first, last=first if match[2] else first + _LAST_BYTE)
