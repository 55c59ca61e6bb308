"""Rules before they are written: who is selected, which other ends, which services; no more of them than are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from serai.model.address import Prefix, in_order
from serai.model.policy import Direction, PortRange
from serai.policy.traffic.narrow import Reach, prefixes, ranges
from serai.policy.traffic.needs import Block, Edge, Needs, by_peer, by_subject
from serai.policy.traffic.roster import Roster
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
    tiles: dict[tuple[Selection, Peer], dict[PortRange, Amount]] = {}
    for service, edges in needs.by_service.items():
        for subject, peer in _tiles(edges, roster, selector):
            reach = _reach(peer)
            amounts = [amount for edge, amount in edges.items() if _has(subject, peer, edge, reach)]
            if amounts:
                tiles.setdefault((subject, peer), {})[service] = total(amounts)
    found = []
    for (subject, peer), services in tiles.items():
        for once in (False, True):
            mine = {service for service, amount in services.items() if (amount.connections == 1) is once}
            if mine:
                found.append(_draft(needs, subject, peer, mine, once=once))
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


def _draft(needs: Needs, subject: Selection, peer: Peer, services: Iterable[PortRange], *, once: bool) -> Draft:
    ordered = tuple(sorted(services, key=service_order))
    ports = ranges(ordered)
    reach = _reach(peer)
    seen = {
        (service, edge): amount
        for service in sorted(needs.by_service, key=service_order)
        if any(covers(each, service) for each in ports)
        for edge, amount in needs.by_service[service].items()
        if _has(subject, peer, edge, reach)
    }
    return Draft(
        direction=needs.direction,
        subject=subject,
        peer=peer,
        services=ordered,
        ports=ports,
        once=once,
        seen=seen,
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


def _has(subject: Selection, peer: Peer, edge: Edge, reach: Reach) -> bool:
    """Say whether a rule about these ends admits an edge."""
    if not subject.chosen >> edge.vm & 1:
        return False
    if isinstance(peer, Selection):
        return edge.peer is not None and bool(peer.chosen >> edge.peer & 1)
    return edge.address in reach


def _reach(peer: Peer) -> Reach:
    return Reach(() if isinstance(peer, Selection) else peer)


def _peer_order(peer: Peer) -> tuple[object, ...]:
    return (0, *peer.order) if isinstance(peer, Selection) else (1, *map(in_order, peer))
