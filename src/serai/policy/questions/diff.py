"""What a change opens and closes: connections, not lines of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from serai.model.address import Address
from serai.model.world import World
from serai.policy.questions.blocks import blocks
from serai.policy.questions.classes import Class, Endpoint, domains, partition
from serai.policy.questions.names import Names, Part, State
from serai.policy.questions.outside import Atom, atoms
from serai.policy.questions.portset import NOTHING, PortSet
from serai.policy.questions.rows import Row, rows
from serai.policy.questions.sides import Seen, Sides


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What became of the connections of one routing domain."""

    routing_domain: str
    opened: tuple[Row, ...]
    """Accepted now, and not before."""
    closed: tuple[Row, ...]
    """Accepted before, and not now."""
    versions: tuple[int, ...]
    """Of IP, that any VM there has or had."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Both:
    """How an end is seen before and after; None where no VM holds the address then, and one does at the other time."""

    old: Seen | None
    new: Seen | None

    @property
    def state(self) -> State:
        if self.old is None:
            return State.NEW
        return State.GONE if self.new is None else State.BOTH

    @property
    def version(self) -> int:
        seen = self.old or self.new
        assert seen is not None  # noqa: S101 (an end is seen at one time at least)
        return seen.version


def diff(old: World, new: World) -> tuple[Difference, ...]:
    """Compare what the policies in force accept, for all packets, by routing domain.

    Addresses are compared: one that a VM holds at both times is the same end, whatever the VM is called. One that
    only one of the worlds has a VM at is new or gone: all that it can open, and that can be opened to it, comes
    and goes with it.
    """
    one, other = Sides(old), Sides(new)
    before, after = domains(old), domains(new)
    return tuple(
        _Comparison(domain, one, other, before.get(domain, []), after.get(domain, [])).difference()
        for domain in sorted({*before, *after})
    )


class _Comparison:
    """Compares one routing domain."""

    def __init__(
        self, domain: str, old: Sides, new: Sides, before: Sequence[Endpoint], after: Sequence[Endpoint]
    ) -> None:
        self._domain = domain
        self._old, self._new = old, new
        were = {end.address: old.of_vnic(end.vm, end.vnic, end.address) for end in before}
        are = {end.address: new.of_vnic(end.vm, end.vnic, end.address) for end in after}
        self._before, self._after = (self._keyed(ends, were, are) for ends in (before, after))
        outside = atoms(old.cuts(were.values()) | new.cuts(are.values()), {*were, *are})
        self._atoms = [(_Both(old.of_outside(a.prefix), new.of_outside(a.prefix)), a) for a in outside]

    @staticmethod
    def _keyed(
        ends: Iterable[Endpoint], were: dict[Address, Seen], are: dict[Address, Seen]
    ) -> list[tuple[_Both, Endpoint]]:
        return [(_Both(were.get(end.address), are.get(end.address)), end) for end in ends]

    def difference(self) -> Difference:
        return Difference(
            routing_domain=self._domain,
            opened=self._rows(self._after, lambda ends: (self._now(*ends), self._then(*ends))),
            closed=self._rows(self._before, lambda ends: (self._then(*ends), self._now(*ends))),
            versions=tuple(sorted({key.version for key, _ in (*self._before, *self._after)})),
        )

    def _then(self, source: _Both, target: _Both) -> PortSet:
        return self._old.accepts(source.old, target.old) if source.old and target.old else NOTHING

    def _now(self, source: _Both, target: _Both) -> PortSet:
        return self._new.accepts(source.new, target.new) if source.new and target.new else NOTHING

    def _rows(
        self, ends: Sequence[tuple[_Both, Endpoint]], sets: Callable[[tuple[_Both, _Both]], tuple[PortSet, PortSet]]
    ) -> tuple[Row, ...]:
        classes = partition(ends, self._atoms)
        known: dict[tuple[PortSet, PortSet], PortSet] = {}

        def added(source: _Both, target: _Both) -> PortSet:
            one, other = both = sets((source, target))
            if both not in known:
                known[both] = one - other
            return known[both]

        return rows(self._domain, blocks(classes, classes, added), self._teller(ends), lambda key: key.version)

    def _teller(self, ends: Sequence[tuple[_Both, Endpoint]]) -> Callable[[Sequence[Class[_Both]]], tuple[Part, ...]]:
        names = {
            (version, state): Names(
                (end for key, end in ends if (key.version, key.state) == (version, state)),
                self._of_version(version) if state is State.BOTH else (),
                state=state,
            )
            for version in (4, 6)
            for state in State
        }

        def tell(found: Sequence[Class[_Both]]) -> tuple[Part, ...]:
            version = found[0].key.version
            return tuple(
                part
                for state in State
                for mine in [[each for each in found if each.key.state is state]]
                if mine
                for part in names[version, state].tell(
                    (end for each in mine for end in each.endpoints), (atom for each in mine for atom in each.atoms)
                )
            )

        return tell

    def _of_version(self, version: int) -> list[Atom]:
        return [atom for key, atom in self._atoms if key.version == version]
