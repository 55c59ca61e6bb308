"""What people call a set of ends: scopes and labels instead of long lists, prefixes instead of addresses."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping

from serai.model.address import LINK_LOCAL, Address, Prefix, in_order, is_several
from serai.model.inventory import VirtualMachine
from serai.model.tenancy import ROOT, Scope
from serai.policy.questions.classes import Endpoint
from serai.policy.questions.outside import WHOLE, Atom

_MOST_VALUES = 4
"""How many values of one label are named instead of single VMs."""


class State(enum.StrEnum):
    """On which side of a change an end is there."""

    BOTH = "both"
    NEW = "new"
    GONE = "gone"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some ends under one name."""

    name: str
    """E.g. ``/acme/shop role=web``, ``outside 10.0.0.0/8 except 10.1.0.0/16``."""
    vms: tuple[str, ...] = ()
    """The paths of the VMs."""
    addresses: tuple[Address, ...] = ()
    """Those of the VMs' addresses that are meant."""
    outside: tuple[tuple[Prefix, tuple[Prefix, ...]], ...] = ()
    """Prefixes, each with what is left out of it; what VMs hold is left out of all."""
    state: State = State.BOTH

    def joined(self, other: Part) -> Part:
        """Return both, for parts that have one name: they differ in the version of IP."""
        return dataclasses.replace(
            self,
            vms=tuple(sorted({*self.vms, *other.vms})),
            addresses=tuple(dict.fromkeys((*self.addresses, *other.addresses))),
            outside=tuple(dict.fromkeys((*self.outside, *other.outside))),
        )


class Names:
    """Names the ends of one routing domain and one version of IP."""

    def __init__(self, endpoints: Iterable[Endpoint], atoms: Iterable[Atom] = (), *, state: State = State.BOTH) -> None:
        """Take all ends that there are: a name means all of them that it fits."""
        self._state = state
        self._atoms = tuple(atoms)
        self._vms: dict[str, VirtualMachine] = {}
        self._ends: dict[str, set[Endpoint]] = {}
        self._scopes: dict[Scope, set[str]] = {}
        self._labels: dict[tuple[Scope, str, str], set[str]] = {}
        for end in endpoints:
            if end.vm.path not in self._vms:
                self._add(end.vm)
            self._ends.setdefault(end.vm.path, set()).add(end)

    def tell(self, endpoints: Iterable[Endpoint], atoms: Iterable[Atom]) -> tuple[Part, ...]:
        """Name the ends given, which are some of all."""
        met: dict[str, set[Endpoint]] = {}
        for end in endpoints:
            met.setdefault(end.vm.path, set()).add(end)
        outside = list(self._outside(frozenset(atom.prefix for atom in atoms)))
        if met == self._ends and len(met) > 1 and any(part.name == "outside" for part in outside):
            [rest] = outside
            return (dataclasses.replace(self._part("anybody", met, met), outside=rest.outside),)
        return (*self._held(met), *outside)

    def _add(self, vm: VirtualMachine) -> None:
        self._vms[vm.path] = vm
        for scope in vm.scope.lineage:
            self._scopes.setdefault(scope, set()).add(vm.path)
            for key, value in vm.labels.items():
                self._labels.setdefault((scope, key, value), set()).add(vm.path)

    def _held(self, met: Mapping[str, set[Endpoint]]) -> Iterator[Part]:
        kinds: dict[str, set[str]] = {}
        for path, ends in met.items():
            kinds.setdefault(self._kind(path, ends), set()).add(path)
        for kind, paths in sorted(kinds.items()):
            for name, covered in self._covers(paths):
                yield self._part(name + kind, covered, met)

    def _part(self, name: str, paths: Iterable[str], met: Mapping[str, set[Endpoint]]) -> Part:
        ordered = tuple(sorted(paths))
        addresses = tuple(a for path in ordered for a in sorted({e.address for e in met[path]}, key=int))
        return Part(name=name, vms=ordered, addresses=addresses, state=self._state)

    def _kind(self, path: str, ends: set[Endpoint]) -> str:
        """Say which of a VM's addresses are meant; nothing where it is all of them."""
        mine = self._ends[path]
        if ends == mine:
            return ""
        link_local = {end for end in mine if end.address in LINK_LOCAL}
        if ends == link_local:
            return " by link-local addresses"
        if ends == mine - link_local:
            return " by global addresses"
        vnics = {end.vnic.name for end in ends}
        if ends == {end for end in mine if end.vnic.name in vnics}:
            return f" by {', '.join(sorted(vnics))}"
        return f" by {', '.join(str(end.address) for end in sorted(ends, key=lambda end: int(end.address)))}"

    def _covers(self, paths: set[str]) -> Iterator[tuple[str, set[str]]]:
        first, *others = (self._vms[path].scope.lineage for path in paths)
        shared = [scope for scope in first if all(scope in lineage for lineage in others)]
        yield from self._in(shared[-1], paths)

    def _in(self, scope: Scope, paths: set[str]) -> Iterator[tuple[str, set[str]]]:
        """Cover ``paths``, which all lie in ``scope``, by as few names as is easily found."""
        if len(paths) == 1:
            yield next(iter(paths)), paths
            return
        if paths == self._scopes[scope]:
            yield ("every VM" if scope == ROOT else scope), paths
            return
        values = self._by_labels(scope, paths) or self._by_values(scope, paths)
        if values:
            for text, covered in values:
                named = text if scope == ROOT else f"{scope} {text}"
                yield (next(iter(covered)) if len(covered) == 1 else named), covered
            return
        below: dict[Scope, set[str]] = {}
        for path in paths:
            lineage = self._vms[path].scope.lineage
            at = lineage.index(scope) + 1
            below.setdefault(lineage[at] if at < len(lineage) else scope, set()).add(path)
        for inner, found in sorted(below.items()):
            if inner == scope:
                yield from ((path, {path}) for path in sorted(found))
            else:
                yield from self._in(inner, found)

    def _by_labels(self, scope: Scope, paths: set[str]) -> list[tuple[str, set[str]]]:
        """Find the fewest labels that all of ``paths`` have, and nobody else in ``scope``."""
        first = next(iter(paths))
        shared = [
            (key, value)
            for key, value in sorted(self._vms[first].labels.items())
            if paths <= self._labels[scope, key, value]
        ]
        alone = next(([pair] for pair in shared if self._labels[(scope, *pair)] == paths), None)
        needed = alone or list(shared)
        if not needed or self._having(scope, needed) != paths:
            return []
        for pair in shared if not alone else ():
            fewer = [other for other in needed if other != pair]
            if fewer and self._having(scope, fewer) == paths:
                needed = fewer
        return [(",".join(f"{key}={value}" for key, value in needed), paths)]

    def _by_values(self, scope: Scope, paths: set[str]) -> list[tuple[str, set[str]]]:
        """Find a label of which some values pick just ``paths``."""
        for key in sorted(self._vms[next(iter(paths))].labels):
            values = {self._vms[path].labels.get(key) for path in paths}
            if None in values or len(values) > _MOST_VALUES or len(values) == len(paths):
                continue
            found = {value: self._labels[scope, key, value] for value in sorted(filter(None, values))}
            if all(covered <= paths for covered in found.values()):
                return [(f"{key}={value}", covered) for value, covered in found.items()]
        return []

    def _having(self, scope: Scope, labels: Iterable[tuple[str, str]]) -> set[str]:
        return set.intersection(*(self._labels[scope, key, value] for key, value in labels))

    def _outside(self, chosen: frozenset[Prefix]) -> Iterator[Part]:
        """Write the chosen atoms as prefixes, each with what is left out of it."""
        without: dict[Prefix, list[Prefix]] = {}
        within: dict[Prefix, Prefix | None] = {}
        for atom in self._atoms:  # larger ones first
            current = within[atom.around] if atom.around else None
            # Where no address is left, nobody can tell.
            inside = atom.prefix in chosen or (atom.example is None and current is not None)
            if inside and current is None:
                current = atom.prefix
                without[current] = []
            elif not inside and current is not None:
                without[current].append(atom.prefix)
                current = None
            within[atom.prefix] = current
        for prefix, excepted in sorted(without.items(), key=lambda item: in_order(item[0])):
            name = "outside" if prefix in WHOLE else f"outside {_short(prefix)}"
            if excepted:
                name += f" except {', '.join(map(_short, excepted))}"
            yield Part(name=name, outside=((prefix, tuple(excepted)),), state=self._state)


def _short(prefix: Prefix) -> str:
    return str(prefix if is_several(prefix) else prefix.network_address)
