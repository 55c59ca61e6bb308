"""The VMs of a world as selectors see them. Sets of VMs are bit masks: VM number n, in order of path, is bit n."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from serai.model.inventory import VirtualMachine
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World

_MANY_VALUES = 8
"""A label with more values than this, most of them on one VM, tells who a VM is, not what it does."""


class Roster:
    """All VMs, by scope and by label."""

    def __init__(self, world: World) -> None:
        """Number the VMs and index their labels."""
        self.vms: tuple[VirtualMachine, ...] = tuple(world.vms[path] for path in sorted(world.vms))
        self.number: Mapping[str, int] = {vm.path: number for number, vm in enumerate(self.vms)}
        self._scopes: dict[Scope, int] = {ROOT: 0}
        self._values: dict[str, dict[str, int]] = {}
        self._kinds: dict[object, int] = {}
        for number, vm in enumerate(self.vms):
            bit = 1 << number
            for scope in vm.scope.lineage:
                self._scopes[scope] = self._scopes.get(scope, 0) | bit
            for key, value in vm.labels.items():
                values = self._values.setdefault(key, {})
                values[value] = values.get(value, 0) | bit
        self._holders = {key: _union(values.values()) for key, values in self._values.items()}
        self.identifying = frozenset(
            key
            for key, values in self._values.items()
            if len(values) > _MANY_VALUES and 2 * len(values) > self._holders[key].bit_count()
        )
        self.kind: tuple[int, ...] = tuple(self._kind(vm) for vm in self.vms)
        """What each VM is, as a number: the same for VMs of one scope that differ in identifying labels only."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all labels: those that tell what VMs do first, and of these those that most VMs have."""
        return tuple(
            sorted(
                self._values,
                key=lambda key: (key in self.identifying, -self._holders[key].bit_count(), key),
            )
        )

    def under(self, scope: Scope) -> int:
        """Return the VMs of a scope and all below it."""
        return self._scopes.get(scope, 0)

    def values(self, key: str) -> Mapping[str, int]:
        """Return who has each value of a label."""
        return self._values[key]

    def having(self, key: str) -> int:
        """Return who has a label, with whatever value."""
        return self._holders[key]

    def members(self, mask: int) -> Iterator[int]:
        """Go through the numbers of the VMs of a set."""
        return bits(mask)

    def shared_scope(self, mask: int) -> Scope:
        """Return the narrowest scope that has all of these VMs."""
        lineages = {self.vms[number].scope for number in bits(mask)}
        first = lineages.pop()
        return next(scope for scope in reversed(first.lineage) if all(scope.contains(other) for other in lineages))

    def _kind(self, vm: VirtualMachine) -> int:
        labels = frozenset(item for item in vm.labels.items() if item[0] not in self.identifying)
        return self._kinds.setdefault((vm.scope, labels), len(self._kinds))


def bits(mask: int) -> Iterator[int]:
    """Go through the numbers of the bits that are set, in order."""
    raw = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    for at, byte in enumerate(raw):
        for bit in range(8) if byte else ():
            if byte >> bit & 1:
                yield at * 8 + bit


def mask_of(numbers: Iterable[int]) -> int:
    """Return the set of these numbers."""
    found = 0
    for number in set(numbers):
        found |= 1 << number
    return found


def _union(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found
