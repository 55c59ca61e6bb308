"""Which kinds of other ends there are in a routing domain: the sets of peers that one address can be one of.

Addresses that VMs hold go by their VM, their network and the prefixes around them; all others by the prefixes alone. Only
kinds that some address is of are listed: a prefix whose every address is taken, or split up among longer ones, makes none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network

from serai.model.address import Address, Prefix
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Group, InCidr, OnNetwork, Peer

Kind = int
"""A set of peers: the mask of their numbers."""

_ALL = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_At = tuple[int, int, int]
"""A prefix as version, length and leading bits."""


def kinds(members: Collection[tuple[VirtualMachine, Vnic]], numbers: Mapping[Peer, int]) -> frozenset[Kind]:
    """List the kinds of other ends in a routing domain.

    Args:
        members: the domain's vNICs, each with its VM.
        numbers: the bit of each peer that is told apart.
    """
    groups = [(peer, 1 << number) for peer, number in numbers.items() if isinstance(peer, Group)]
    networks = {peer.path: 1 << number for peer, number in numbers.items() if isinstance(peer, OnNetwork)}
    nesting = _Nesting((peer.prefix, 1 << number) for peer, number in numbers.items() if isinstance(peer, InCidr))
    selected: dict[tuple[str, frozenset[tuple[str, str]]], Kind] = {}
    found: set[Kind] = set()
    for vm, vnic in members:
        looks = vm.scope, frozenset(vm.labels.items())
        if looks not in selected:
            selected[looks] = sum(bit for group, bit in groups if group.contains(vm.scope, vm.labels))
        by_vnic = selected[looks] | networks.get(vnic.network.path, 0)
        found |= {by_vnic | nesting.of(address) for address in vnic.held}
    return frozenset(found | nesting.of_nobody({address for _, vnic in members for address in vnic.held}))


class _Nesting:
    """Prefixes, and which of them lie in which."""

    def __init__(self, bits: Iterable[tuple[Prefix, int]]) -> None:
        self._bits = {_at(prefix): bit for prefix, bit in bits}
        everywhere = [_at(prefix) for prefix in _ALL]
        self._lengths = {
            version: sorted({length for v, length, _ in (*self._bits, *everywhere) if v == version}, reverse=True)
            for version, _, _ in everywhere
        }
        self._places = {*self._bits, *everywhere}

    def of(self, address: Address) -> Kind:
        """Return the prefixes that ``address`` is in."""
        return self._kind(address.version, address.max_prefixlen, int(address))

    def of_nobody(self, held: Collection[Address]) -> set[Kind]:
        """Return the kinds of addresses that are not among ``held``."""
        left = {at: 1 << (_width(at[0]) - at[1]) for at in self._places}
        for at in self._places:
            around = self._around(at[0], at[1] - 1, at[2] >> 1) if at[1] else None
            if around:
                left[around] -= 1 << (_width(at[0]) - at[1])
        for address in held:
            around = self._around(address.version, address.max_prefixlen, int(address))
            if around:
                left[around] -= 1
        return {self._kind(*at) for at, addresses in left.items() if addresses}

    def _kind(self, version: int, length: int, bits: int) -> Kind:
        kind = 0
        for shorter in self._lengths[version]:
            if shorter <= length:
                kind |= self._bits.get((version, shorter, bits >> (length - shorter)), 0)
        return kind

    def _around(self, version: int, length: int, bits: int) -> _At | None:
        """Return the longest known prefix around ``length`` leading bits."""
        for shorter in self._lengths[version]:
            at = version, shorter, bits >> max(0, length - shorter)
            if shorter <= length and at in self._places:
                return at
        return None


def _at(prefix: Prefix) -> _At:
    return prefix.version, prefix.prefixlen, int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)


def _width(version: int) -> int:
    return _ALL[0].max_prefixlen if version == _ALL[0].version else _ALL[1].max_prefixlen
