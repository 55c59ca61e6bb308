"""Why VMs cannot move, in sentences that together say something of every host. No I/O."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Final

from serai.controller.planning.survey import Survey
from serai.migration.obstacle import (
    ExclusiveHost,
    HostLacksTag,
    KeptApart,
    NetworkLacksTag,
    NoHost,
    Obstacle,
    OtherPool,
)
from serai.migration.plan.answer import Block, Rule, Stuck
from serai.model.placement import NO_NEEDS, Pool

_NAMED: Final = 6
"""How many hosts a sentence names."""
_HOSTS: Final = "HOSTS"
_ORDER: Final = (NetworkLacksTag, OtherPool, HostLacksTag, ExclusiveHost, KeptApart, NoHost)
"""What says most comes first."""


class Wording:
    """Explains the VMs of one plan. What is the same for VMs of the same tags on the same networks is found out once."""

    def __init__(self, survey: Survey) -> None:
        """Explain VMs of these."""
        self._survey = survey
        self._known: dict[object, list[str]] = {}

    def why(self, stuck: Stuck) -> list[str]:
        """Say why a VM stays where it should not."""
        if pinned := self._survey.pinned.get(stuck.machine):
            return [pinned]
        barred, at = self._barred(stuck.machine), self._survey.machines[stuck.machine].host
        blocks = [
            block for block in stuck.blocks if not (barred and block.hosts == (at,))
        ]  # where it is, it need not go
        return [*(text for block in blocks for text in self._block(block)), *barred]

    def _block(self, block: Block) -> Iterator[str]:
        """Put what keeps a VM from hosts that it might run on otherwise."""
        match block.rule:
            case Rule.PLACEMENT:
                if block.hosts:
                    yield f"the hosts that it may run on are all to become empty: {named(block.hosts)}"
            case Rule.ADMISSION:
                reasons: dict[str, list[str]] = collections.defaultdict(list)
                for host in block.hosts:
                    reasons[self._survey.closed[host]].append(host)
                for why, hosts in reasons.items():
                    yield f"{_hosts(hosts)} {'takes' if len(hosts) == 1 else 'take'} nobody: {why}"
            case Rule.APART | Rule.MEMORY | Rule.VNICS | Rule.FLOWS:
                yield f"{_hosts(block.hosts)}: {block.why}"

    def _barred(self, vm: str) -> list[str]:
        """Say what tags, networks and pools have against hosts."""
        survey, machine = self._survey, self._survey.machines[vm]
        pool = survey.placement.pool_of(machine.host)
        own, needs = survey.world.vms[vm], survey.world.placement.vms.get(vm, NO_NEEDS)
        key = (needs.tags, tuple(vnic.network.path for vnic in own.vnics), pool)
        if key not in self._known:
            found: dict[str, list[str]] = collections.defaultdict(list)
            for host in sorted(survey.hosts.keys() - survey.goal.hosts - machine.allowed):
                obstacles = survey.placement.blocks(vm, host, {vm: machine.host})
                found[_said(min(obstacles, key=_weight), pool)].append(host)
            self._known[key] = [_sentence(said, hosts) for said, hosts in found.items()]
        return self._known[key]


def _weight(obstacle: Obstacle) -> tuple[int, str]:
    """What is to be told first, of several."""
    return _ORDER.index(type(obstacle)), str(obstacle)


def _said(obstacle: Obstacle, pool: Pool | None) -> str:
    """Say what there is against hosts; ``HOSTS`` stands for their names and a verb."""
    match obstacle:
        case NetworkLacksTag():
            return f"{obstacle}: tag the network, or let the VM be without the tag"
        case OtherPool():
            own = f"not in the pool {pool.name}, where it runs" if pool else "in a pool, and its own host in none"
            return f"{_HOSTS} {own}: VMs move within one"
        case HostLacksTag(tag=tag):
            return f"{_HOSTS} without the tag {tag}"
        case ExclusiveHost(tag=tag, rule=rule):
            return f"{_HOSTS} only for VMs with the tag {tag} (PlacementRule {rule})"
        case other:
            return str(other)


def _sentence(said: str, hosts: Iterable[str]) -> str:
    hosts = tuple(hosts)
    return said.replace(_HOSTS, f"{_hosts(hosts)} {'is' if len(hosts) == 1 else 'are'}")


def _hosts(names: Iterable[str]) -> str:
    names = tuple(names)
    return f"{'host' if len(names) == 1 else 'hosts'} {named(names)}"


def named(names: Iterable[str]) -> str:
    """Name things, of many the first."""
    some = sorted(names)
    more = len(some) - _NAMED
    return f"{', '.join(some[:_NAMED])} and {more} more" if more > 0 else ", ".join(some)
