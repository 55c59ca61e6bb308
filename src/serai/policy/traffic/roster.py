"""The VMs of a world as selectors see them. Sets of VMs are bit masks: VM number n, in order of path, is bit n.

VMs of one scope with the same labels are one *class*: no selector tells them apart. There are far fewer classes than VMs, so that
selectors are looked for among sets of classes, which are masks as well: class number n is bit n.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from serai.model.inventory import VirtualMachine
from serai.model.tenancy import ROOT, Scope
from serai.model.world import World

_MANY_VALUES = 8
"""A label with more values than this, most of them on one VM, tells who a VM is, not what it does."""


class Roster:
    """All VMs, by scope and by label."""

    def __init__(self, world: World) -> None:
        """Number the VMs and their classes, and index the labels of these."""
        self.vms: tuple[VirtualMachine, ...] = tuple(world.vms[path] for path in sorted(world.vms))
        self.number: Mapping[str, int] = {vm.path: number for number, vm in enumerate(self.vms)}
        found: dict[tuple[Scope, frozenset[tuple[str, str]]], list[int]] = {}
        for number, vm in enumerate(self.vms):
            found.setdefault((vm.scope, frozenset(vm.labels.items())), []).append(number)
        self._members = [mask_of(numbers) for numbers in found.values()]
        self._class = {number: place for place, numbers in enumerate(found.values()) for number in numbers}
        self._classes: dict[int, int] = {}
        self._vms: dict[int, int] = {}
        self._scopes = [scope for scope, _ in found]
        self._lineages = {scope: scope.lineage for scope in {ROOT, *self._scopes}}
        self._under: dict[Scope, int] = {}
        self._values: dict[str, dict[str, int]] = {}
        holders: dict[str, int] = {}
        for place, ((scope, labels), numbers) in enumerate(found.items()):
            for above in self._lineages[scope]:
                self._under[above] = self._under.get(above, 0) | 1 << place
            for key, value in labels:
                values = self._values.setdefault(key, {})
                values[value] = values.get(value, 0) | 1 << place
                holders[key] = holders.get(key, 0) + len(numbers)
        self._having = {key: union(values.values()) for key, values in self._values.items()}
        self.identifying = frozenset(
            key for key, values in self._values.items() if len(values) > _MANY_VALUES and 2 * len(values) > holders[key]
        )
        self.keys: tuple[str, ...] = tuple(
            sorted(self._values, key=lambda key: (key in self.identifying, -holders[key], key))
        )
        """The names of all labels: those that tell what VMs do first, and of these those that most VMs have."""
        self._labels = [dict(labels) for _, labels in found]
        kinds: dict[object, int] = {}
        of_class = [
            kinds.setdefault((scope, frozenset(item for item in labels if item[0] not in self.identifying)), len(kinds))
            for scope, labels in found
        ]
        self.kind: tuple[int, ...] = tuple(of_class[self._class[number]] for number in range(len(self.vms)))
        """What each VM is, as a number: the same for VMs of one scope that differ in identifying labels only."""

    def classes(self, vms: int) -> int:
        """Return the classes of some VMs."""
        found = self._classes.get(vms)
        if found is None:
            found = self._classes[vms] = mask_of(map(self._class.__getitem__, bits(vms)))
        return found

    def members(self, classes: int) -> int:
        """Return all VMs of some classes."""
        found = self._vms.get(classes)
        if found is None:
            found = self._vms[classes] = union(map(self._members.__getitem__, bits(classes)))
        return found

    # Of sets of classes

    def under(self, scope: Scope) -> int:
        """Return those of a scope and all below it."""
        return self._under.get(scope, 0)

    def with_values(self, key: str, values: Iterable[str]) -> int:
        """Return those that have one of some values of a label."""
        return union(map(self._values[key].__getitem__, values))

    def values_of(self, key: str, classes: int) -> Iterator[str]:
        """Go through the values of a label that some classes have; some come several times."""
        values = self._values[key]
        if len(values) <= classes.bit_count():
            return (value for value, mask in values.items() if mask & classes)
        return (self._labels[place][key] for place in bits(classes & self._having[key]))

    def having(self, key: str) -> int:
        """Return those that have a label, with whatever value."""
        return self._having[key]

    def parted(self, classes: int) -> tuple[Mapping[Scope, int], Sequence[Mapping[str | None, int]]]:
        """Part classes by their scope, and by the value of each of ``keys`` (None: they have no such label)."""
        places = bits(classes)
        scopes: dict[Scope, int] = {}
        for place in places:
            scope = self._scopes[place]
            scopes[scope] = scopes.get(scope, 0) | 1 << place
        return scopes, [self._by_label(key, classes, places) for key in self.keys]

    def _by_label(self, key: str, classes: int, places: Sequence[int]) -> Mapping[str | None, int]:
        values = self._values[key]
        found: dict[str | None, int] = {}
        if len(values) <= len(places):
            found.update((value, mask & classes) for value, mask in values.items() if mask & classes)
            if without := classes & ~self._having[key]:
                found[None] = without
            return found
        for place in places:
            value = self._labels[place].get(key)
            found[value] = found.get(value, 0) | 1 << place
        return found

    def by_tenant(self, classes: int) -> Sequence[int]:
        """Part classes by their tenant; the provider's own are together."""
        found: dict[Scope, int] = {}
        for place in bits(classes):
            tenant = self._lineages[self._scopes[place]][:2][-1]
            found[tenant] = found.get(tenant, 0) | 1 << place
        return list(found.values())

    def shared_scope(self, scopes: Iterable[Scope]) -> Scope:
        """Return the narrowest scope that has all that is in some scopes."""
        first, *others = scopes
        return next(scope for scope in reversed(self._lineages[first]) if all(scope.contains(each) for each in others))


def bits(mask: int) -> Sequence[int]:
    """Return the numbers of the bits that are set, in order."""
    if not mask:
        return ()
    first = (mask & -mask).bit_length() - 1  # most sets are of neighbours: what lies before them is not looked at
    mask >>= first
    raw = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8, "little"), "u1")
    found: list[int] = (np.unpackbits(raw, bitorder="little").view(bool).nonzero()[0] + first).tolist()
    return found


def mask_of(numbers: Iterable[int]) -> int:
    """Return the set of these numbers."""
    found = set(numbers)
    raw = bytearray(max(found, default=-1) // 8 + 1)
    for number in found:
        raw[number // 8] |= 1 << number % 8
    return int.from_bytes(raw, "little")


def union(masks: Iterable[int]) -> int:
    """Return what is in any of these sets."""
    found = 0
    for mask in masks:
        found |= mask
    return found
