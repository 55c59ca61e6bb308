"""Makes of what a controller knows what plans are made of: hosts with room, VMs with needs. What nobody knows for certain is taken as it would do harm. No I/O."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from serai.controller.planning.fitting import unfit
from serai.controller.planning.known import Known
from serai.controller.whereabouts import Sign, signs_of
from serai.migration.placement import Placement
from serai.migration.plan.asked import Evacuate, Goal, Machine, PlanHost, Rebalance
from serai.model.host_facts import version
from serai.model.inventory import Mac, VirtualMachine
from serai.model.migration import MOST_VNICS
from serai.model.placement import NO_NEEDS
from serai.model.records import VNICS
from serai.model.world import World
from serai.wire.planapi import PlanRequest

_NOWHERE: Final[frozenset[str]] = frozenset()
"""Where a VM may move that does not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """What a plan is made of, and why it is so."""

    goal: Goal
    hosts: Mapping[str, PlanHost]
    """By name."""
    machines: Mapping[str, Machine]
    """By name: the path of a VM, or what ``leaving`` calls it at a host that it has not left yet."""
    closed: Mapping[str, str]
    """Why hosts take nobody, by name."""
    blind: frozenset[str]
    """Hosts of which nobody can say how full they are; they take nobody."""
    pinned: Mapping[str, str]
    """Why VMs do not move, by path."""
    leaving: frozenset[str]
    """Names that stand for VMs that count somewhere else, too: they are about to leave."""
    unknown: Mapping[str, int]
    """How many VMs of each host have no memory declared."""
    world: World
    """The resources in force."""
    placement: Placement
    """What they say."""


def survey(known: Known, request: PlanRequest) -> Survey:
    """Look at everything.

    Args:
        known: what is known now.
        request: names hosts that there are, or a pool that there is.
    """
    return _Surveyor(known).look(request)


class _Surveyor:
    """Looks once."""

    def __init__(self, known: Known) -> None:
        self._known, self._world = known, known.world
        self._heard = {name for name, state in known.states.items() if state.connected and name in known.signs}
        owners = {sign: path for path, vm in self._world.vms.items() for sign in signs_of(vm)}
        self._places = self._find(owners)
        names = {*self._world.hosts, *known.states, *known.moves.values()}
        names.update(host for hosts in self._places.values() for host in hosts)
        self._names = sorted(names)
        self._placement = Placement.of(self._world, names)
        self._strangers = {
            host: sorted(sign for sign in signs if isinstance(sign, Mac) and sign not in owners)
            for host, signs in known.signs.items()
        }
        self._untold = self._find_untold()
        self._reserved = self._find_reserved()
        self._pinned: dict[str, str] = {}
        self._leaving: dict[str, Machine] = {}
        self._within: dict[tuple[frozenset[str], str | None], frozenset[str]] = {}

    def _find(self, owners: Mapping[Sign, str]) -> dict[str, list[str]]:
        """Return the hosts of each VM that runs somewhere, or may: where it is reported, and else where it is expected if nobody hears that host."""
        found: dict[str, list[str]] = {}
        for host, signs in sorted(self._known.signs.items()):
            for path in {owners[sign] for sign in signs if sign in owners}:
                found.setdefault(path, []).append(host)
        for path, vm in self._world.vms.items():
            if vm.host is not None and path not in found and vm.host not in self._heard:
                found[path] = [vm.host]
        return dict(sorted(found.items()))

    def _find_untold(self) -> dict[str, list[str]]:
        """Return the VMs of each host, those that come included, whose memory nobody has declared."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for path, hosts in self._places.items():
            if self._memory(path) is None:
                for host in {*hosts, *self._coming(path)}:
                    found[host].append(path)
        return found

    def _find_reserved(self) -> collections.Counter[str]:
        """Return how many vNICs of VMs that run nowhere are expected on each host: it has their rules."""
        found = collections.Counter[str]()
        for path, vm in self._world.vms.items():
            if vm.host is not None and path not in self._places:
                found[vm.host] += len(vm.vnics)
        return found

    def _memory(self, path: str) -> int | None:
        return self._world.placement.vms.get(path, NO_NEEDS).memory

    def _coming(self, path: str) -> set[str]:
        return {self._known.moves[path]} if path in self._known.moves else set()

    def look(self, request: PlanRequest) -> Survey:
        closed, blind = self._closed()
        apart, vms = self._apart(), self._world.vms
        machines = {path: self._machine(path, vms[path], hosts, apart) for path, hosts in self._places.items()}
        hosts = {name: self._host(name, closed) for name in self._names}
        return Survey(
            goal=self._goal(request, blind), hosts=hosts, machines=machines | self._leaving, closed=closed, blind=blind,
            pinned=self._pinned, leaving=frozenset(self._leaving), unknown={host: len(vms) for host, vms in self._untold.items()},
            world=self._world, placement=self._placement,
        )  # fmt: skip

    def _goal(self, request: PlanRequest, blind: frozenset[str]) -> Goal:
        if request.evacuate:
            return Evacuate(hosts=frozenset(request.evacuate))
        settings = self._known.settings
        hosts = self._world.placement.pools[request.rebalance].hosts.intersection(self._names)
        return Rebalance(hosts=hosts - blind, within=settings.within, most_moves=settings.most_moves)

    # Hosts

    def _host(self, name: str, closed: Mapping[str, str]) -> PlanHost:
        facts = self._known.facts.get(name)
        memory = int(facts.memory * (1 - self._known.settings.headroom)) if facts else 0
        return PlanHost(name=name, memory_mib=memory, vnics=VNICS - self._reserved[name], admits=name not in closed)

    def _closed(self) -> tuple[dict[str, str], frozenset[str]]:
        """Return why hosts take nobody, and those of which nobody knows how full they are."""
        blind = {name: why for name in self._names if (why := self._unseen(name))}
        misfits = unfit(self._world.placement.pools.values(), self._known.facts)
        found = dict(blind)
        for name in self._names:
            if name not in found and (why := self._unwilling(name)):
                found[name] = why
            elif name not in found and (mismatches := misfits.get(name)):
                more = f" (and {len(mismatches) - 1} more: `serai pool admit {name}`)" if len(mismatches) > 1 else ""
                found[name] = f"it does not fit its pool: it {mismatches[0]}{more}"
        return found, frozenset(blind)

    def _unseen(self, name: str) -> str:
        """Say why nobody knows how full a host is; empty: that is known."""
        state = self._known.states.get(name)
        if state is None:
            return f"it has not joined, or is revoked: `serai host token {name}` lets it join"
        if name not in self._heard:
            return f"it is not connected: see `serai status {name}`"
        if name not in self._known.facts:
            return "it has never told what it is made of: see `serai agent status` there"
        if untold := self._untold.get(name):
            return f"how full it is nobody knows: the memory of {_some(untold)} is not declared (spec.memory)"
        if strangers := self._strangers.get(name):
            return f"how full it is nobody knows: it runs VMs that are not declared (MAC {_some(strangers)})"
        return ""

    def _unwilling(self, name: str) -> str:
        state = self._known.states[name]
        if state.trouble:
            return f"it refuses the rules that it is sent: {state.trouble}"
        own, needed = version(state.agent), version(self._known.version)
        if own and own < needed:
            return f"its agent {state.agent} is older than this controller ({self._known.version}): bring it up to date"
        return ""

    # VMs

    def _apart(self) -> Mapping[str, tuple[str, ...]]:
        """Return the rules that keep each VM apart from others, by path."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for rule, paths in sorted(self._placement.groups.items()):
            for path in paths:
                found[path].append(rule)
        return {path: tuple(rules) for path, rules in found.items()}

    def _machine(
        self, path: str, vm: VirtualMachine, hosts: list[str], apart: Mapping[str, tuple[str, ...]]
    ) -> Machine:
        """Return one VM; where it is on its way from one host to another, it counts at both."""
        at, memory = self._known.moves.get(path, hosts[-1]), self._memory(path)
        if why := self._rooted(path, vm, hosts, memory):
            self._pinned[path] = why
        made = Machine(
            path=path, host=at, memory_mib=memory or 0, vnics=len(vm.vnics),
            allowed=_NOWHERE if why else self._allowed(path, at), apart=apart.get(path, ()),
        )  # fmt: skip
        for host in hosts:
            if host != at:
                name = f"{path} (still at {host})"
                self._leaving[name] = dataclasses.replace(made, path=name, host=host)
        return made

    def _rooted(self, path: str, vm: VirtualMachine, hosts: list[str], memory: int | None) -> str:
        """Say why a VM does not move, wherever there is room; empty: it may."""
        if (to := self._known.moves.get(path)) is not None:
            return f"it is being moved to {to} already: plan again when that is over, or abort it (`serai moves --vm {path}`)"
        if len(hosts) > 1:
            return f"hosts {' and '.join(hosts)} tell of it at once: see `serai status HOST` of each, and stop what is not the VM"
        if hosts[0] not in self._heard:
            return f"host {hosts[0]}, where it is, is not connected: see `serai status {hosts[0]}`"
        if memory is None:
            return "how much memory it needs is not declared: say it in its spec.memory, in MiB"
        if not 0 < len(vm.vnics) <= MOST_VNICS:
            return f"it has {len(vm.vnics)} vNICs: VMs with 1 to {MOST_VNICS} can be moved"
        return ""

    def _allowed(self, path: str, at: str) -> frozenset[str]:
        """Return the hosts that a VM may run on: the very same set for VMs for which it is equal."""
        tagged, pool = self._placement.hosts_for(path), self._placement.pool_of(at)
        key = tagged, pool.name if pool else None
        if key not in self._within:
            self._within[key] = frozenset(host for host in tagged if self._placement.pool_of(host) is pool)
        return self._within[key]


def _some(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first
