"""What rules have to admit, in one direction: which VM, which other end, which service; and how much of it was seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from serai.model.policy import Direction, PortRange
from serai.policy.traffic.roster import Roster, mask_of
from serai.policy.traffic.seen import Amount


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Need:
    """A VM that is judged, the other end, and a service. There is one of each, and it is equal to nothing but itself."""

    vm: int
    """The VM's number in the roster."""
    peer: int | None
    """The number of the VM that holds the other end's address; None where no VM does."""
    address: int
    """The other end's (``spots.py``)."""
    service: PortRange
    amount: Amount


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """All that rules of one direction have to admit."""

    direction: Direction
    by_service: Mapping[PortRange, Sequence[Need]]


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Ends that are told together: every VM with every other end."""

    subjects: int
    """The VMs that are judged, as a set of the roster's."""
    peers: int
    """The other ends that are VMs."""
    addresses: frozenset[int]
    """The other ends that are none."""


def by_subject(needs: Iterable[Need], roster: Roster) -> list[Block]:
    """Put together the VMs of all kinds that have the same kinds of other ends."""
    others: dict[int, set[int]] = {}
    for need in needs:
        others.setdefault(roster.kind[need.vm], set()).add(_other(need, roster))
    alike = {kind: frozenset(found) for kind, found in others.items()}
    return _blocks((need, alike[roster.kind[need.vm]]) for need in needs)


def by_peer(needs: Iterable[Need], roster: Roster) -> list[Block]:
    """Put together the other ends that have the same kinds of VMs."""
    kinds: dict[int, set[int]] = {}
    for need in needs:
        kinds.setdefault(_other(need, roster), set()).add(roster.kind[need.vm])
    alike = {other: frozenset(found) for other, found in kinds.items()}
    return _blocks((need, alike[_other(need, roster)]) for need in needs)


def _other(need: Need, roster: Roster) -> int:
    """Return what the other end is: VMs are of kinds, addresses are themselves, written so that they are no kinds."""
    return ~need.address if need.peer is None else roster.kind[need.peer]


def _blocks(places: Iterable[tuple[Need, frozenset[int]]]) -> list[Block]:
    """Put needs of one place together."""
    parts: dict[frozenset[int], list[Need]] = {}
    for need, place in places:
        parts.setdefault(place, []).append(need)
    return [
        Block(
            subjects=mask_of(need.vm for need in part),
            peers=mask_of(need.peer for need in part if need.peer is not None),
            addresses=frozenset(need.address for need in part if need.peer is None),
        )
        for part in parts.values()
    ]
