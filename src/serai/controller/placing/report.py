"""What is told of where VMs are and may be: of the files of a directory, or of what is in force. No I/O."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Collection, Iterator

from serai.migration.obstacle import (
    ExclusiveHost,
    HostLacksTag,
    KeptApart,
    NetworkLacksTag,
    NoHost,
    Obstacle,
    OtherPool,
    withheld,
)
from serai.migration.placement import Placement, Violation, Where
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.wire import placementapi

Sees = Callable[[Scope], bool]
"""Says whether whoever asks may see the VMs of a scope."""


def expected(world: World) -> dict[str, str]:
    """Return the host where each VM is expected."""
    return {path: vm.host for path, vm in world.vms.items() if vm.host is not None}


def report(
    world: World,
    where: Where,
    *,
    revision: int = 0,
    reported: Collection[str] = (),
    sees: Sees = lambda _: True,
    names_hosts: bool = True,
) -> placementapi.PlacementReport:
    """Say what is wrong with VMs as they are, and whom hosts can meet, as far as whoever asks may see.

    Args:
        world: what is in force, or stands in files.
        where: the host of each VM.
        revision: what is in force; 0: it is about files.
        reported: the VMs that a host reports; others are where they are expected.
        sees: says whether whoever asks may see the VMs of a scope.
        names_hosts: whoever asks may see hosts.
    """
    sees = functools.cache(sees)
    placement = Placement.of(world, where.values())
    violations = [each for each in placement.violations(where) if sees(_scope(each.vm))]
    return placementapi.PlacementReport(
        revision=revision,
        vms=sum(sees(vm.scope) for vm in world.vms.values()),
        reported=sum(path in world.vms and sees(_scope(path)) for path in reported),
        violations=[_told(each, sees, names_hosts=names_hosts) for each in violations],
        hosts=list(_bounds(world, placement, where)) if names_hosts else [],
    )


def _told(violation: Violation, sees: Sees, *, names_hosts: bool) -> placementapi.PlacementViolation:
    found = violation.obstacle
    hidden = isinstance(found, KeptApart) and not sees(_scope(found.other))
    found = withheld(found, host=not names_hosts, other=hidden)
    tag, network, rule = _about(found)
    return placementapi.PlacementViolation(
        vm=violation.vm,
        host=violation.host if names_hosts else None,
        kind=found.kind,
        message=str(found),
        tag=tag,
        network=network,
        rule=rule,
    )


def _about(found: Obstacle) -> tuple[str, str, str]:
    """Return the tag, the network and the rule that are in the way."""
    match found:
        case HostLacksTag():
            return found.tag, "", ""
        case NetworkLacksTag():
            return found.tag, found.network, ""
        case ExclusiveHost():
            return found.tag, "", found.rule
        case KeptApart():
            return "", "", found.rule
        case OtherPool() | NoHost():
            return "", "", ""


def _bounds(world: World, placement: Placement, where: Where) -> Iterator[placementapi.HostBounds]:
    there: dict[str, list[str]] = collections.defaultdict(list)
    for vm, host in where.items():
        if vm in world.vms:
            there[host].append(vm)
    for host in sorted({*world.hosts, *there}):
        pool = placement.pool_of(host)
        yield placementapi.HostBounds(
            host=host,
            pool=pool.name if pool else None,
            tags=sorted(world.placement.hosts.get(host, ())),
            vms=len(there[host]),
            tenants=len({world.vms[vm].scope.tenant for vm in there[host]}),
            tenants_most=len(placement.tenants(host)),
        )


def _scope(path: str) -> Scope:
    return Scope(path.rpartition(":")[0])
