"""What rules have to admit, in one direction: which VM, which other end, which service; and how much of it was seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from serai.model.address import Address
from serai.model.policy import Direction, PortRange
from serai.policy.traffic.roster import Roster, mask_of
from serai.policy.traffic.seen import Amount


class Edge(NamedTuple):
    """A VM that is judged, and the other end."""

    vm: int
    """Its number in the roster."""
    peer: int | None
    """The number of the VM that holds the other end's address; None where no VM does."""
    address: Address
    """The other end's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """All that rules of one direction have to admit."""

    direction: Direction
    by_service: Mapping[PortRange, Mapping[Edge, Amount]]


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Ends that are told together: every VM with every other end."""

    subjects: int
    """The VMs that are judged, as a set of the roster's."""
    peers: int
    """The other ends that are VMs."""
    addresses: frozenset[Address]
    """The other ends that are none."""


def by_subject(edges: Mapping[Edge, Amount], roster: Roster) -> list[Block]:
    """Put together the VMs of all kinds that have the same kinds of other ends."""
    others: dict[int, set[Hashable]] = {}
    for edge in edges:
        others.setdefault(roster.kind[edge.vm], set()).add(_other(edge, roster))
    alike = {kind: frozenset(found) for kind, found in others.items()}
    return _blocks({edge: alike[roster.kind[edge.vm]] for edge in edges})


def by_peer(edges: Mapping[Edge, Amount], roster: Roster) -> list[Block]:
    """Put together the other ends that have the same kinds of VMs."""
    kinds: dict[Hashable, set[int]] = {}
    for edge in edges:
        kinds.setdefault(_other(edge, roster), set()).add(roster.kind[edge.vm])
    alike = {other: frozenset(found) for other, found in kinds.items()}
    return _blocks({edge: alike[_other(edge, roster)] for edge in edges})


def _other(edge: Edge, roster: Roster) -> Hashable:
    """Return what the other end is: VMs are of kinds, addresses are themselves."""
    return edge.address if edge.peer is None else roster.kind[edge.peer]


def _blocks(places: Mapping[Edge, Hashable]) -> list[Block]:
    """Put edges of one place together."""
    parts: dict[Hashable, list[Edge]] = {}
    for edge, place in places.items():
        parts.setdefault(place, []).append(edge)
    return [
        Block(
            subjects=mask_of(edge.vm for edge in part),
            peers=mask_of(edge.peer for edge in part if edge.peer is not None),
            addresses=frozenset(edge.address for edge in part if edge.peer is None),
        )
        for part in parts.values()
    ]
