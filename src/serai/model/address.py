"""IP addresses of both versions in one form: 16 bytes, IPv4 as ``::ffff:a.b.c.d`` (RFC 4291, 2.5.5.2).

The gate keeps every address so. The mapped form never stands in a packet: a gate drops IPv6 packets that use it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

BITS = 128
MAPPED = IPv6Network("::ffff:0:0/96")
"""Where IPv4 addresses stand among the 128-bit ones."""

IPV4_AT = BITS - 32
"""How many bits stand before an IPv4 address among the 128-bit ones."""
LINK_LOCAL = IPv6Network("fe80::/10")
"""Addresses that mean something on one link only (RFC 4291, 2.5.6)."""

_OWN_LINK = IPv6Address("fe80::")


class DisguiseError(ValueError):
    """It is an address, written in a form that could be taken for another one."""


def pack(address: Address) -> bytes:
    """Return the 16 bytes of ``address``."""
    return address.packed if isinstance(address, IPv6Address) else MAPPED.network_address.packed[:12] + address.packed


def unpack(raw: bytes) -> Address:
    """Return the address that ``pack`` wrote."""
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


def packed_length(prefix: Prefix) -> int:
    """Return how many leading bits of the 128 a prefix fixes."""
    return prefix.prefixlen + (IPV4_AT if isinstance(prefix, IPv4Network) else 0)


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Say whether every address of ``inner`` is one of ``outer``; never across versions."""
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)


def prefix_of(address: Address) -> Prefix:
    """Return the prefix that holds nothing but ``address``."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def is_several(prefix: Prefix) -> bool:
    """Say whether a prefix holds more than one address."""
    return prefix.prefixlen < prefix.max_prefixlen


def in_order(prefix: Prefix) -> tuple[bytes, int]:
    """By what prefixes of both versions are sorted: IPv4 as the mapped addresses that it is."""
    return pack(prefix.network_address), packed_length(prefix)


def link_local(mac: bytes) -> IPv6Address:
    """Return the address that the six bytes of a MAC make for themselves on a link (RFC 4291, appendix A)."""
    interface = bytes((mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]))
    return IPv6Address(int(_OWN_LINK) | int.from_bytes(interface))


def unpack_prefix(raw: bytes, length: int) -> Prefix:
    """Return the prefix of ``length`` bits (of 128) that begins at the 16 bytes ``raw``.

    Raises:
        ValueError: bits are set behind the length, or it is longer than 128.
    """
    first = unpack(raw)
    if isinstance(first, IPv4Address) and length >= IPV4_AT:
        return IPv4Network((first, length - IPV4_AT))
    return IPv6Network((raw, length))


def parse(text: str) -> Address:
    """Read an address of either version.

    Raises:
        DisguiseError: it is an IPv4 address in the form of an IPv6 one, or belongs to an interface.
        ValueError: it is no address.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            message = f"{text!r} is an IPv4 address in disguise: write {address.ipv4_mapped}"
            raise DisguiseError(message)
        if address.scope_id:
            message = f"{text!r} names an interface of some machine: write {text.partition('%')[0]}"
            raise DisguiseError(message)
    return address


def parse_prefix(text: str) -> Prefix:
    """Read ``ADDRESS/LENGTH`` of either version; bits behind the length are cleared.

    Raises:
        DisguiseError: as for ``parse``.
        ValueError: it is no prefix.
    """
    address, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdecimal()):
        message = f"{text!r} has no length"
        raise ValueError(message)
    network = ip_network((address, int(length)), strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        inside = unpack_prefix(network.network_address.packed, network.prefixlen)
        message = f"{text!r} is an IPv4 prefix in disguise: write {inside}"
        raise DisguiseError(message)
    if "%" in address:
        message = f"{text!r} names an interface of some machine: write {address.partition('%')[0]}/{length}"
        raise DisguiseError(message)
    return network
