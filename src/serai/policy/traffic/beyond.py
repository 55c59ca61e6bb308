"""How much rules admit beyond what was seen, counted one by one."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from serai.model.policy import PortRange
from serai.model.ports import WITH_PORTS
from serai.model.world import World
from serai.policy.traffic.drafts import Draft
from serai.policy.traffic.needs import Needs
from serai.policy.traffic.roster import Roster, bits, mask_of, union
from serai.policy.traffic.seen import DYNAMIC, covers
from serai.policy.traffic.selection import Selection
from serai.policy.traffic.spots import Reach, Span, joined, span, spot

_NOWHERE: Final = (0, Reach(()))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """What is admitted and was not seen, of one direction."""

    vms: int = 0
    """A VM, another VM that it can reach, and a port: so many of these. The dynamic ports of a protocol count as one."""
    addresses: int = 0
    """A VM, an address inside a prefix of a rule, whoever holds it, and a port: so many of these."""

    def __add__(self, other: Beyond) -> Beyond:
        return Beyond(vms=self.vms + other.vms, addresses=self.addresses + other.addresses)


class Counter:
    """Counts in one world."""

    def __init__(self, world: World, roster: Roster) -> None:
        """Note who can reach whom, and who holds what."""
        self._roster = roster
        members: dict[str, set[int]] = {}
        held: dict[str, list[tuple[int, int]]] = {}
        for vm, vnic in world.vnics():
            domain, number = vnic.network.routing_domain, roster.number[vm.path]
            members.setdefault(domain, set()).add(number)
            held.setdefault(domain, []).extend((spot(address), number) for address in vnic.held)
        self._members = {domain: mask_of(numbers) for domain, numbers in members.items()}
        self._held = {domain: sorted(found) for domain, found in held.items()}
        self._domains = tuple(frozenset(vnic.network.routing_domain for vnic in vm.vnics) for vm in roster.vms)

    def beyond(self, drafts: Sequence[Draft], seen: Needs) -> Beyond:
        """Count what the rules, all of one direction, admit beyond what was seen."""
        found = Beyond()
        cells = _cells([*(p for draft in drafts for p in draft.ports), *seen.by_service])
        places = [(cell.protocol, cell.first) for cell in cells]
        rules: dict[int, list[Draft]] = {}
        for draft in drafts:
            for ports in draft.ports:
                begin = bisect.bisect_left(places, (ports.protocol, ports.first))
                for at in range(begin, bisect.bisect_right(places, (ports.protocol, ports.last))):
                    rules.setdefault(at, []).append(draft)
        for at, mine in rules.items():
            one = self._of_cell(mine, seen, cells[at])
            weight = _weight(cells[at])
            found += Beyond(vms=one.vms * weight, addresses=one.addresses * weight)
        return found

    def _of_cell(self, rules: Sequence[Draft], seen: Needs, cell: PortRange) -> Beyond:
        rules_of: dict[int, int] = {}
        for at, rule in enumerate(rules):
            for vm in bits(rule.subject.chosen):
                rules_of[vm] = rules_of.get(vm, 0) | 1 << at
        groups: dict[tuple[int, frozenset[str]], list[int]] = {}
        for vm, mine in rules_of.items():
            groups.setdefault((mine, self._domains[vm]), []).append(vm)
        vms = addresses = 0
        reach: dict[int, tuple[int, Reach]] = {}
        for (mine, domains), members in groups.items():
            peers = [rules[at].peer for at in bits(mine)]
            parts = joined(span(p) for peer in peers if not isinstance(peer, Selection) for p in peer)
            met = union(peer.chosen for peer in peers if isinstance(peer, Selection))
            met |= self._inside(parts, domains)
            met &= union(self._members[domain] for domain in domains)
            size = met.bit_count()
            vms += sum(size - (met >> vm & 1) for vm in members)
            addresses += sum(last - first + 1 for first, last in parts) * len(members)
            reach.update(dict.fromkeys(members, (met, Reach(parts))))
        pairs: set[tuple[int, int]] = set()
        single: set[tuple[int, int]] = set()
        for service, needs in seen.by_service.items():
            for need in needs if covers(service, cell) else ():
                met, inside = reach.get(need.vm, _NOWHERE)
                if need.peer is not None and need.peer != need.vm and met >> need.peer & 1:
                    pairs.add((need.vm, need.peer))
                if need.address in inside:
                    single.add((need.vm, need.address))
        return Beyond(vms=vms - len(pairs), addresses=addresses - len(single))

    def _inside(self, parts: Iterable[Span], domains: Iterable[str]) -> int:
        """Return the VMs that hold addresses inside the spans."""
        found: set[int] = set()
        for domain in domains:
            held = self._held[domain]
            for first, last in parts:
                begin, end = bisect.bisect_left(held, (first, 0)), bisect.bisect_left(held, (last + 1, 0))
                found.update(number for _, number in held[begin:end])
        return mask_of(found)


def _cells(ports: Iterable[PortRange]) -> list[PortRange]:
    """Cut ports where any of the ranges begins or ends."""
    edges: dict[int, set[int]] = {}
    for each in ports:
        edges.setdefault(each.protocol, set()).update((each.first, each.last + 1))
    return [
        PortRange(protocol=protocol, first=first, last=end - 1)
        for protocol, found in sorted(edges.items())
        for ordered in [sorted(found)]
        for first, end in itertools.pairwise(ordered)
    ]


def _weight(cell: PortRange) -> int:
    whole = cell.protocol not in WITH_PORTS or (cell.first, cell.last) == DYNAMIC
    return 1 if whole else cell.last - cell.first + 1
