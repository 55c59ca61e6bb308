"""Packets with others inside, where no gate looks: they leave a VM only where its vNIC may tunnel, whatever policy says."""

from __future__ import annotations

from serai.model.ports import UDP

PROTOCOLS = frozenset({4, 41, 47, 94, 97, 98, 137})
"""IPv4, IPv6, GRE, IPIP, EtherIP, ENCAP and MPLS in IP (IANA numbers)."""
UDP_PORTS = frozenset({4789, 4790, 6081, 8472})
"""VXLAN, VXLAN GPE, Geneve, and VXLAN as Linux knew it first."""


def is_tunnel(protocol: int, port: int) -> bool:
    """Say whether a connection to ``port`` of ``protocol`` is a tunnel's."""
    return protocol in PROTOCOLS or (protocol == UDP and port in UDP_PORTS)
