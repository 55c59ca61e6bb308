"""Rules before they are written: who is selected, which other ends, which services; no more of them than are needed."""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from serai.model.address import Prefix, in_order
from serai.model.policy import Direction, PortRange
from serai.policy.traffic.narrow import prefixes, ranges
from serai.policy.traffic.needs import Block, Need, Needs, by_peer, by_subject
from serai.policy.traffic.roster import Roster, bits, mask_of
from serai.policy.traffic.seen import covers, service_order
from serai.policy.traffic.selection import Selection, Selector
from serai.policy.traffic.spots import Reach, joined, span

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
    seen: Sequence[Need]
    """All that was seen and that it admits."""

    @property
    def order(self) -> tuple[object, ...]:
        """By what rules of one subject are sorted: those about VMs first, those seen once last."""
        return (_peer_order(self.peer), self.once, tuple(map(service_order, self.services)))


def drafts(needs: Needs, roster: Roster, selector: Selector) -> list[Draft]:
    """Return rules that admit all that is needed, so that none of them can be left out; by subject, in order."""
    index = _Index(needs)
    tiles: dict[tuple[Selection, Peer], dict[PortRange, int]] = {}
    for service, found in needs.by_service.items():
        for subject, peer in _tiles(found, roster, selector):
            admitted = index.of(subject, peer, service)
            if admitted:
                connections = sum(need.amount.connections for need in admitted)
                tiles.setdefault((subject, peer), {})[service] = connections
    rules = []
    for (subject, peer), services in tiles.items():
        for once in (False, True):
            mine = {service for service, connections in services.items() if (connections == 1) is once}
            if mine:
                rules.append(_draft(index, subject, peer, mine, once=once))
    return _needed(sorted(rules, key=lambda draft: (draft.subject.order, draft.order)))


def _tiles(needs: Sequence[Need], roster: Roster, selector: Selector) -> list[tuple[Selection, Peer]]:
    """Cover what was seen of one service by subjects and peers: from the side that gives less to read."""
    ways = [
        [tile for block in blocks for tile in _cut(block, selector)]
        for blocks in (by_subject(needs, roster), by_peer(needs, roster))
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
        self._needs: dict[PortRange, dict[int, list[Need]]] = {}
        self._vms: dict[PortRange, int] = {}
        self._reach: dict[tuple[Prefix, ...], Reach] = {}
        self._services = sorted(needs.by_service, key=service_order)
        self._places = [(service.protocol, service.first) for service in self._services]
        for service in self._services:
            mine = self._needs.setdefault(service, {})
            for need in needs.by_service[service]:
                mine.setdefault(need.vm, []).append(need)
            self._vms[service] = mask_of(mine)

    def within(self, ports: Sequence[PortRange]) -> Iterator[PortRange]:
        """Go through the services that lie in some ranges, which are in order and apart from each other."""
        for each in ports:
            begin = bisect.bisect_left(self._places, (each.protocol, each.first))
            end = bisect.bisect_right(self._places, (each.protocol, each.last))
            yield from (service for service in self._services[begin:end] if covers(each, service))

    def of(self, subject: Selection, peer: Peer, service: PortRange) -> list[Need]:
        """Return what is needed of one service between some ends."""
        there = self._needs[service]
        needs = (need for vm in bits(subject.chosen & self._vms[service]) for need in there[vm])
        if isinstance(peer, Selection):
            chosen = peer.chosen
            return [need for need in needs if need.peer is not None and chosen >> need.peer & 1]
        reach = self._reach.get(peer)
        if reach is None:
            reach = self._reach[peer] = Reach(joined(map(span, peer)))
        return [need for need in needs if need.address in reach]


def _draft(index: _Index, subject: Selection, peer: Peer, services: Iterable[PortRange], *, once: bool) -> Draft:
    ordered = tuple(sorted(services, key=service_order))
    ports = ranges(ordered)
    seen = [need for service in index.within(ports) for need in index.of(subject, peer, service)]
    return Draft(
        direction=index.direction, subject=subject, peer=peer, services=ordered, ports=ports, once=once, seen=seen
    )


def _needed(found: list[Draft]) -> list[Draft]:
    """Leave out rules where others admit all that was seen of them: those of which the least was seen first."""
    times = Counter(need for draft in found for need in draft.seen)
    kept = set(range(len(found)))
    for number in sorted(kept, key=lambda n: (len(found[n].seen), -n)):
        if all(times[need] > 1 for need in found[number].seen):
            kept.discard(number)
            times.subtract(found[number].seen)
    return [found[number] for number in sorted(kept)]


def _peer_order(peer: Peer) -> tuple[object, ...]:
    return (0, *peer.order) if isinstance(peer, Selection) else (1, *map(in_order, peer))
