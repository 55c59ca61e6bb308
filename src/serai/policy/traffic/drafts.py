"""Rules before they are written: who is selected, which other ends, which services; no more of them than are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from serai.model.address import Prefix, in_order
from serai.model.policy import Direction, PortRange
from serai.policy.traffic.narrow import Reach, prefixes, ranges
from serai.policy.traffic.needs import Block, Edge, Needs, by_peer, by_subject
from serai.policy.traffic.roster import Roster, bits, mask_of
from serai.policy.traffic.seen import Amount, covers, service_order, total
from serai.policy.traffic.selection import Selection, Selector

Peer = Selection | tuple[Prefix, ...]
"""Other ends that one selector picks, or that some prefixes hold."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One rule. It accepts."""

    direction: Direction
    subject: Selection
    peer: Peer
    services: tuple[PortRange, ...]
    """Those that were seen, in order."""
    ports: tuple[PortRange, ...]
    """Those that it admits: where they were too many to write, wider ranges."""
    once: bool
    """Of each service, one connection was seen."""
    seen: Mapping[tuple[PortRange, Edge], Amount]
    """All that was seen and that it admits."""

    @property
    def order(self) -> tuple[object, ...]:
        """By what rules of one subject are sorted: those about VMs first, those seen once last."""
        return (_peer_order(self.peer), self.once, tuple(map(service_order, self.services)))


def drafts(needs: Needs, roster: Roster, selector: Selector) -> list[Draft]:
    """Return rules that admit all that is needed, so that none of them can be left out; by subject, in order."""
    index = _Index(needs)
    tiles: dict[tuple[Selection, Peer], dict[PortRange, Amount]] = {}
    for service, edges in needs.by_service.items():
        for subject, peer in _tiles(edges, roster, selector):
            amounts = index.of(subject, peer, service)
            if amounts:
                tiles.setdefault((subject, peer), {})[service] = total(amounts.values())
    found = []
    for (subject, peer), services in tiles.items():
        for once in (False, True):
            mine = {service for service, amount in services.items() if (amount.connections == 1) is once}
            if mine:
                found.append(_draft(index, subject, peer, mine, once=once))
    return _needed(sorted(found, key=lambda draft: (draft.subject.order, draft.order)))


def _tiles(edges: Mapping[Edge, Amount], roster: Roster, selector: Selector) -> list[tuple[Selection, Peer]]:
    """Cover what was seen of one service by subjects and peers: from the side that gives less to read."""
    ways = [
        [tile for block in blocks for tile in _cut(block, selector)]
        for blocks in (by_subject(edges, roster), by_peer(edges, roster))
    ]
    return min(ways, key=lambda tiles: sum(2 + subject.weight for subject, _ in tiles))


def _cut(block: Block, selector: Selector) -> Iterable[tuple[Selection, Peer]]:
    peers: list[Peer] = list(selector.cover(block.peers)) if block.peers else []
    if block.addresses:
        peers.append(prefixes(block.addresses))
    return [(subject, peer) for subject in selector.cover(block.subjects) for peer in peers]


class _Index:
    """What is needed, by the VM that is judged."""

    def __init__(self, needs: Needs) -> None:
        self.direction = needs.direction
        self._edges: dict[PortRange, dict[int, list[tuple[Edge, Amount]]]] = {}
        self._vms: dict[PortRange, int] = {}
        for service in sorted(needs.by_service, key=service_order):
            mine = self._edges.setdefault(service, {})
            for edge, amount in needs.by_service[service].items():
                mine.setdefault(edge.vm, []).append((edge, amount))
            self._vms[service] = mask_of(mine)

    def within(self, ports: Sequence[PortRange]) -> Iterator[PortRange]:
        """Go through the services that lie in some ranges, in order."""
        return (service for service in self._edges if any(covers(each, service) for each in ports))

    def of(self, subject: Selection, peer: Peer, service: PortRange) -> dict[Edge, Amount]:
        """Return what is needed of one service between some ends."""
        reach = Reach(() if isinstance(peer, Selection) else peer)
        return {
            edge: amount
            for vm in bits(subject.chosen & self._vms[service])
            for edge, amount in self._edges[service][vm]
            if _is_peer(peer, edge, reach)
        }


def _draft(index: _Index, subject: Selection, peer: Peer, services: Iterable[PortRange], *, once: bool) -> Draft:
    ordered = tuple(sorted(services, key=service_order))
    ports = ranges(ordered)
    seen = {
        (service, edge): amount
        for service in index.within(ports)
        for edge, amount in index.of(subject, peer, service).items()
    }
    return Draft(
        direction=index.direction, subject=subject, peer=peer, services=ordered, ports=ports, once=once, seen=seen
    )


def _needed(found: list[Draft]) -> list[Draft]:
    """Leave out rules where others admit all that was seen of them: those of which the least was seen first."""
    times: dict[tuple[PortRange, Edge], int] = {}
    for draft in found:
        for each in draft.seen:
            times[each] = times.get(each, 0) + 1
    kept = set(range(len(found)))
    for number in sorted(kept, key=lambda n: (len(found[n].seen), -n)):
        if all(times[each] > 1 for each in found[number].seen):
            kept.discard(number)
            for each in found[number].seen:
                times[each] -= 1
    return [found[number] for number in sorted(kept)]


def _is_peer(peer: Peer, edge: Edge, reach: Reach) -> bool:
    """Say whether the other end is meant; ``reach`` are the addresses that are."""
    if isinstance(peer, Selection):
        return edge.peer is not None and bool(peer.chosen >> edge.peer & 1)
    return edge.address in reach


def _peer_order(peer: Peer) -> tuple[object, ...]:
    return (0, *peer.order) if isinstance(peer, Selection) else (1, *map(in_order, peer))
