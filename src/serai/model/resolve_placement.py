"""Tags, pools and placement rules: whom they name, and nobody else."""

from __future__ import annotations

import functools

from serai.model import resources
from serai.model.definitions import Definition
from serai.model.inventory import Host
from serai.model.placement import NO_NEEDS, Exclusive, KeepApart, Needs, PlacementRule, Pool, Requirements
from serai.model.placing import RequirementsSpec
from serai.model.references import Scopes, Table
from serai.model.resolve_peers import group
from serai.model.tenancy import ROOT


def carried(tags: tuple[str, ...]) -> frozenset[str]:
    """Return tags as a set; of the same tags, most often the very same one."""
    return _set(tuple(sorted(set(tags))))


@functools.lru_cache(maxsize=1 << 12)
def _set(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(tags)


@functools.lru_cache(maxsize=1 << 12)
def _needs(tags: frozenset[str], memory: int | None) -> Needs:
    return Needs(tags=tags, memory=memory)


def resolve_needs(vm: resources.VirtualMachine) -> Needs | None:
    """Return what a VM needs of its host; None where it needs nothing."""
    found = _needs(carried(vm.spec.tags), vm.spec.memory)
    return None if found == NO_NEEDS else found


def resolve_pool(definition: Definition[resources.Pool], hosts: Table[Host]) -> Pool:
    """Return a pool; whole where there is nothing to complain about."""
    spec = definition.resource.spec
    for number, host in enumerate(spec.hosts):
        hosts.find(definition, ("spec", "hosts", number), host, ROOT)
    return Pool(
        name=definition.resource.metadata.name,
        hosts=frozenset(spec.hosts),
        profile=spec.profile,
        requires=_requirements(spec.requires),
    )


def _requirements(spec: RequirementsSpec) -> Requirements:
    return Requirements(
        memory=spec.memory or 0,
        nics=spec.nics or 0,
        nic_speed=spec.nic_speed or 0,
        agent=spec.agent or "",
        features=frozenset(spec.features),
    )


def resolve_placement_rule(definition: Definition[resources.PlacementRule], scopes: Scopes) -> PlacementRule:
    """Return a placement rule; whole where there is nothing to complain about."""
    name, spec = definition.resource.metadata.name, definition.resource.spec
    if spec.exclusive is not None:
        return Exclusive(name=name, tag=spec.exclusive)
    apart = spec.keep_apart
    assert apart is not None, "it says one thing"  # noqa: S101
    scope = ROOT if apart.scope is None else apart.scope
    scopes.check(definition, ("spec", "keepApart", "scope"), scope)
    return KeepApart(name=name, group=group(scope, apart.selector))
