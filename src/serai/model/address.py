"""IP addresses of both versions in one form: 16 bytes, IPv4 as ``::ffff:a.b.c.d`` (RFC 4291, 2.5.5.2).

The gate keeps every address so. The mapped form never stands in a packet: a gate drops IPv6 packets that use it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

BITS = 128
MAPPED = IPv6Network("::ffff:0:0/96")
"""Where IPv4 addresses stand among the 128-bit ones."""

_IPV4_AT = BITS - 32
_LINK_LOCAL = IPv6Address("fe80::")


def pack(address: Address) -> bytes:
    """Return the 16 bytes of ``address``."""
    return address.packed if isinstance(address, IPv6Address) else MAPPED.network_address.packed[:12] + address.packed


def unpack(raw: bytes) -> Address:
    """Return the address that ``pack`` wrote."""
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


def packed_length(prefix: Prefix) -> int:
    """Return how many leading bits of the 128 a prefix fixes."""
    return prefix.prefixlen + (_IPV4_AT if isinstance(prefix, IPv4Network) else 0)


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Say whether every address of ``inner`` is one of ``outer``; never across versions."""
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def link_local(mac: bytes) -> IPv6Address:
    """Return the address that the six bytes of a MAC make for themselves on a link (RFC 4291, appendix A)."""
    interface = bytes((mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]))
    return IPv6Address(int(_LINK_LOCAL) | int.from_bytes(interface))


def parse(text: str) -> Address:
    """Read an address of either version.

    Raises:
        ValueError: it is none, or an IPv4 address in the disguise of an IPv6 one.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.scope_id):
        message = f"{text!r} is an address in disguise: write it without ::ffff: or %scope"
        raise ValueError(message)
    return address
