"""Where VMs may run: by their tags, by the rules about hosts, and by who is there already."""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Final, Self

from serai.migration.obstacle import (
    ExclusiveHost,
    HostLacksTag,
    KeptApart,
    NetworkLacksTag,
    NoHost,
    Obstacle,
    OtherPool,
)
from serai.model.inventory import VirtualMachine
from serai.model.placement import NO_NEEDS, NO_TAGS, Exclusive, KeepApart, Pool
from serai.model.tenancy import Scope
from serai.model.world import World

Where = Mapping[str, str]
"""The host that each VM is on, by the VM's path; those that run nowhere are not in it."""

NOWHERE: Final[Where] = MappingProxyType({})
_NO_HOSTS: Final[frozenset[str]] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something that is not as tags and rules want it."""

    vm: str
    """Its path."""
    host: str | None
    """Where it is; None: nowhere."""
    obstacle: Obstacle


class Placement:
    """Answers for one world. What an answer needs is found out once, when it is first asked for."""

    def __init__(self, world: World, hosts: Iterable[str] = ()) -> None:
        """Take what has been said; ``hosts`` are some beside those that the world declares: they carry no tags."""
        self._world, self._terms = world, world.placement
        self._hosts = sorted({*world.hosts, *hosts})
        self._pools = {host: pool for pool in self._terms.pools.values() for host in pool.hosts}
        self._exclusive: dict[str, list[str]] = collections.defaultdict(list)
        self._apart: dict[Scope, list[KeepApart]] = collections.defaultdict(list)
        for rule in self._terms.rules.values():
            match rule:
                case Exclusive():
                    self._exclusive[rule.tag].append(rule.name)
                case KeepApart():
                    self._apart[rule.group.scope].append(rule)
        self._for: dict[frozenset[str], frozenset[str]] = {}
        self._groups: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, world: World, hosts: Iterable[str] = ()) -> Self:
        """Answer for ``world``, and for hosts beside those that it declares."""
        return cls(world, hosts)

    # What is asked

    def blocks(self, vm: str, host: str, running: Where = NOWHERE, going: Where = NOWHERE) -> tuple[Obstacle, ...]:
        """Return what keeps a VM from running on a host, nothing if it may.

        Args:
            vm: its path.
            host: its name.
            running: where VMs are; where this one is in it, it would have to move.
            going: where VMs are about to go.

        Raises:
            KeyError: there is no such VM.
        """
        machine = self._world.vms[vm]
        return (
            *self._lacking(machine, host),
            *self._unpooled(vm, host, running),
            *self._together(machine, host, running, going),
        )

    def hosts_for(self, vm: str) -> frozenset[str]:
        """Return the hosts that a VM may run on as far as tags say; VMs of the same tags get the very same set.

        Raises:
            KeyError: there is no such VM.
        """
        return _NO_HOSTS if any(self._unmarked(self._world.vms[vm])) else self._hosts_with(self._tags(vm))

    def pool_of(self, host: str) -> Pool | None:
        """Return the pool that a host is in."""
        return self._pools.get(host)

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The VMs that each rule keeps apart from each other, by the rule's name; their paths in order."""
        return {rule.name: self._members(rule) for rule in self._keeping()}

    def violations(self, where: Where) -> list[Violation]:
        """Return all that is not as it should be with VMs as they are, in order of path."""
        found = [*self._misplaced(where), *self._crowded(where)]
        return sorted(found, key=lambda each: (each.vm, each.obstacle.kind, str(each.obstacle)))

    def tenants(self, host: str) -> frozenset[str]:
        """Return the tenants that have a VM which may run on a host as far as tags say: it never meets others."""
        return self._tenants_of(self._classes_on(host))

    # Tags

    def _tags(self, vm: str) -> frozenset[str]:
        return self._terms.vms.get(vm, NO_NEEDS).tags

    def _lacking(self, vm: VirtualMachine, host: str) -> Iterator[Obstacle]:
        has, carries = self._tags(vm.path), self._terms.hosts.get(host, NO_TAGS)
        for tag in sorted(has - carries):
            yield HostLacksTag(host=host, tag=tag)
        yield from self._unmarked(vm)
        for tag in sorted(carries - has):
            for rule in self._exclusive.get(tag, ()):
                yield ExclusiveHost(host=host, tag=tag, rule=rule)

    def _unmarked(self, vm: VirtualMachine) -> Iterator[NetworkLacksTag]:
        """Go through what the networks of a VM lack."""
        if not (has := self._tags(vm.path)):
            return
        told = set[str]()
        for vnic in vm.vnics:
            path = vnic.network.path
            if path not in told:
                told.add(path)
                for tag in sorted(has - self._terms.networks.get(path, NO_TAGS)):
                    yield NetworkLacksTag(network=path, vnic=vnic.name, tag=tag)

    def _hosts_with(self, tags: frozenset[str]) -> frozenset[str]:
        found = self._for.get(tags)
        if found is None:
            found = self._for[tags] = frozenset(host for host in self._hosts if self._takes(host, tags))
        return found

    def _takes(self, host: str, tags: frozenset[str]) -> bool:
        carries = self._terms.hosts.get(host, NO_TAGS)
        return tags <= carries and not any(tag in self._exclusive for tag in carries - tags)

    def _misplaced(self, where: Where) -> Iterator[Violation]:
        exclusive = {host for host, tags in self._terms.hosts.items() if not tags.isdisjoint(self._exclusive)}
        placed = {vm for vm, host in where.items() if host in exclusive and vm in self._world.vms}
        tagged = {vm for vm, needs in self._terms.vms.items() if needs.tags}
        for vm in placed | tagged:
            host, machine = where.get(vm), self._world.vms[vm]
            for obstacle in self._unmarked(machine) if host is None else self._lacking(machine, host):
                yield Violation(vm=vm, host=host, obstacle=obstacle)
            if host is None and not self._hosts_with(self._tags(vm)):
                yield Violation(vm=vm, host=None, obstacle=NoHost(tags=tuple(sorted(self._tags(vm)))))

    # Pools

    def _unpooled(self, vm: str, host: str, running: Where) -> Iterator[OtherPool]:
        source = running.get(vm)
        if source is None or source == host:
            return
        own, other = self._pools.get(source), self._pools.get(host)
        if own is not other:
            yield OtherPool(host=host, pool=other.name if other else None, own=own.name if own else None)

    # Who is kept apart

    def _keeping(self) -> Iterator[KeepApart]:
        for rules in self._apart.values():
            yield from rules

    def _together(self, vm: VirtualMachine, host: str, running: Where, going: Where) -> Iterator[KeptApart]:
        for scope in vm.scope.lineage:
            for rule in self._apart.get(scope, ()):
                if rule.group.contains(vm.scope, vm.labels):
                    there = [
                        other
                        for other in self._members(rule)
                        if other != vm.path and host in {running.get(other), going.get(other)}
                    ]
                    if there:
                        yield KeptApart(host=host, rule=rule.name, other=there[0], more=len(there) - 1)

    def _crowded(self, where: Where) -> Iterator[Violation]:
        for rule in self._keeping():
            on: dict[str, list[str]] = collections.defaultdict(list)
            for vm in self._members(rule):
                if vm in where:
                    on[where[vm]].append(vm)
            for host, vms in on.items():
                if len(vms) > 1:
                    for vm in vms:
                        other = vms[1] if vm == vms[0] else vms[0]
                        obstacle = KeptApart(host=host, rule=rule.name, other=other, more=len(vms) - 2)
                        yield Violation(vm=vm, host=host, obstacle=obstacle)

    def _members(self, rule: KeepApart) -> tuple[str, ...]:
        found = self._groups.get(rule.name)
        if found is None:
            vms, group = self._world.vms, rule.group
            among = (vms[path] for path in self._within(group.scope))
            found = tuple(vm.path for vm in among if group.contains(vm.scope, vm.labels))
            self._groups[rule.name] = found
        return found

    @cached_property
    def _paths(self) -> list[str]:
        return sorted(self._world.vms)

    def _within(self, scope: Scope) -> Iterator[str]:
        """Go through the VMs of a scope, in order of path; some of others may be among them."""
        if scope == "/":
            yield from self._paths
            return
        # "/" comes before ":": first what is below the scope, then what is in it, each side by side.
        for begin, end in ((f"{scope}/", f"{scope}0"), (f"{scope}:", f"{scope};")):
            yield from self._paths[bisect.bisect_left(self._paths, begin) : bisect.bisect_left(self._paths, end)]

    # Whom hosts can meet

    @cached_property
    def _classes(self) -> Mapping[frozenset[str], frozenset[str]]:
        """By tags: the tenants that have a VM of those which may run somewhere."""
        found: dict[frozenset[str], set[str]] = collections.defaultdict(set)
        for path, vm in self._world.vms.items():
            tags = self._tags(path)
            if vm.scope.tenant is not None and not any(self._unmarked(vm)):
                found[tags].add(vm.scope.tenant)
        return {tags: frozenset(tenants) for tags, tenants in found.items()}

    def _classes_on(self, host: str) -> frozenset[frozenset[str]]:
        return frozenset(tags for tags in self._classes if self._takes(host, tags))

    @cached_property
    def _unions(self) -> dict[frozenset[frozenset[str]], frozenset[str]]:
        return {}

    def _tenants_of(self, classes: frozenset[frozenset[str]]) -> frozenset[str]:
        found = self._unions.get(classes)
        if found is None:
            found = self._unions[classes] = frozenset[str]().union(*(self._classes[tags] for tags in classes))
        return found
