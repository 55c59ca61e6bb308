"""Which rules accept too much: nearly everybody, on every port.

*Nearly everybody* is anybody at all, or an IPv4 prefix shorter than 8 bits, or an IPv6 prefix shorter than 16 bits that is
not private (``fc00::/7``, RFC 4193). *Every port* is every port of TCP, UDP or SCTP; port 0, which nobody uses, may lack.
"""

from __future__ import annotations

from ipaddress import IPv6Network

from serai.model.address import contains
from serai.model.policy import InCidr, Peer, PortRange
from serai.model.ports import PROTOCOLS, WITH_PORTS
from serai.policy.questions.cells import Cells
from serai.policy.questions.traffic import Traffic

SHORTEST = {4: 8, 6: 16}
"""From how many bits on a prefix, by version of IP, is narrow enough."""
RANGES = tuple(PortRange(protocol=protocol, first=1) for protocol in sorted(WITH_PORTS))
"""What cells must tell apart for this question."""

_PRIVATE = IPv6Network("fc00::/7")
_NAMES = {number: name.upper() for name, number in PROTOCOLS.items()}


def too_much(traffic: Traffic, cells: Cells) -> str:
    """Say what of ``traffic`` is too much, e.g. ``0.0.0.0/0 and ::/0 on every TCP port``; nothing where nothing is."""
    by_ports: dict[str, list[str]] = {}
    for peer, mask in traffic.parts:
        who, ports = _everybody(peer), _every_port(mask, cells)
        if who and ports:
            by_ports.setdefault(ports, []).append(who)
    return ", and ".join(f"{' and '.join(sorted(who))} on {ports}" for ports, who in sorted(by_ports.items()))


def _everybody(peer: Peer | None) -> str:
    """Name a peer that is nearly everybody."""
    if peer is None:
        return "anybody"
    if not isinstance(peer, InCidr) or contains(_PRIVATE, peer.prefix):
        return ""
    return str(peer.prefix) if peer.prefix.prefixlen < SHORTEST[peer.prefix.version] else ""


def _every_port(mask: int, cells: Cells) -> str:
    """Name the protocols of which every port is in the set."""
    if mask == cells.everything:
        return "every port"
    whole = [_NAMES[r.protocol] for r in RANGES if not cells.of((r,)) & ~mask]
    return f"every {' and '.join(whole)} port" if whole else ""
