"""The addresses that no VM holds, cut where policies tell them apart."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from serai.model.address import Address, Prefix

WHOLE: tuple[Prefix, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
"""All addresses of both versions."""

_DOCUMENTED = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8::1")}
"""Addresses for examples (RFC 5737, RFC 3849)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """The addresses of a prefix without those of smaller prefixes inside it, and without those that VMs hold."""

    prefix: Prefix
    around: Prefix | None
    """The next larger prefix that is an atom; None for the whole of a version."""
    example: Address | None
    """One of the addresses; None where there are none."""


def atoms(cuts: Iterable[Prefix], held: Collection[Address]) -> tuple[Atom, ...]:
    """Cut the addresses of both versions by ``cuts``, larger prefixes first.

    Args:
        cuts: the prefixes that policies, or those who ask, name.
        held: the addresses that VMs hold.
    """
    return tuple(atom for whole in WHOLE for atom in _atoms(whole, cuts, held))


def _atoms(whole: Prefix, cuts: Iterable[Prefix], held: Collection[Address]) -> Iterable[Atom]:
    mine = {prefix for prefix in cuts if prefix.version == whole.version} | {whole}
    ordered = sorted(mine, key=lambda prefix: (int(prefix.network_address), prefix.prefixlen))
    inside: dict[Prefix, list[Prefix]] = {prefix: [] for prefix in ordered}
    around: dict[Prefix, Prefix | None] = {}
    open_: list[Prefix] = []
    for prefix in ordered:
        while open_ and int(open_[-1].broadcast_address) < int(prefix.network_address):
            open_.pop()
        around[prefix] = open_[-1] if open_ else None
        if open_:
            inside[open_[-1]].append(prefix)
        open_.append(prefix)
    taken = sorted(int(address) for address in held if address.version == whole.version)
    for prefix in ordered:
        yield Atom(prefix=prefix, around=around[prefix], example=_free(prefix, inside[prefix], taken))


def _free(prefix: Prefix, inside: list[Prefix], taken: list[int]) -> Address | None:
    """Find an address that is in no hole; where it can be, not the first one of the prefix, which often is nobody's."""
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    near = taken[bisect.bisect_left(taken, first) : bisect.bisect_right(taken, last)]
    holes = sorted([(int(p.network_address), int(p.broadcast_address)) for p in inside] + [(a, a) for a in near])
    starts = (int(_DOCUMENTED[prefix.version]), first + 1, first)
    found = next(
        (at for start in starts if first <= start for at in [_gap(start, last, holes)] if at is not None), None
    )
    if found is None:
        return None
    return IPv4Address(found) if isinstance(prefix, IPv4Network) else IPv6Address(found)


def _gap(at: int, last: int, holes: Iterable[tuple[int, int]]) -> int | None:
    for begin, end in holes:
        if at < begin:
            break
        at = max(at, end + 1)
    return at if at <= last else None
