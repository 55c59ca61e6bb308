"""The selectors that pick given VMs, and as few others as labels allow."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from serai.model.policy import Expression, Operator
from serai.model.tenancy import Scope
from serai.policy.traffic.roster import Roster, union

MOST_VALUES = 8
"""So many values of one label are listed in one selector."""
MOST_PARTS = 6
"""So many selectors stand for one set of VMs."""
_TOGETHER = 3
"""So many labels at a time are tried in every combination, before labels are taken one after the other."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A selector in its scope, and whom it picks."""

    scope: Scope
    expressions: tuple[Expression, ...] = ()
    """In the order in which they are written; none: all VMs of the scope."""
    chosen: int = dataclasses.field(compare=False)
    """The VMs that it picks, as a set of the roster's."""
    classes: int = dataclasses.field(compare=False)
    """Their classes."""
    order: tuple[object, ...] = dataclasses.field(init=False, compare=False, repr=False)
    """By what selections are sorted."""

    def __post_init__(self) -> None:
        order = (self.scope, *((e.key, e.operator.value, tuple(sorted(e.values))) for e in self.expressions))
        object.__setattr__(self, "order", order)

    @property
    def weight(self) -> int:
        """How much there is to read."""
        return sum(map(_weight, self.expressions))


@dataclasses.dataclass(frozen=True, slots=True)
class _Requirement:
    """What one label has to be like so that none of the wanted VMs is left out."""

    expressions: tuple[Expression, ...]
    met: int
    rank: int
    """How far behind its label stands among all."""

    @property
    def weight(self) -> tuple[int, int]:
        return sum(map(_weight, self.expressions)), self.rank


class Selector:
    """Chooses selectors; remembers what it has chosen."""

    def __init__(self, roster: Roster) -> None:
        """Take the VMs that there are."""
        self._roster = roster
        self._tightest: dict[int, Selection] = {}
        self._covers: dict[int, tuple[Selection, ...]] = {}

    def cover(self, wanted: int) -> tuple[Selection, ...]:
        """Return selectors that together pick all of ``wanted``, and as few others as can be; few of them, in order.

        Every label is one that the VMs have, or do not have. Where several selectors pick no fewer others than one does,
        there is one; but VMs of few tenants are picked tenant by tenant.
        """
        if wanted not in self._covers:
            classes = self._roster.classes(wanted)
            tenants = self._roster.by_tenant(classes)
            found = [
                part
                for mine in (tenants if len(tenants) <= MOST_PARTS else [classes])
                for part in self._joined(self._split(wanted, mine, MOST_PARTS))
            ]
            self._covers[wanted] = tuple(sorted(found, key=lambda part: part.order))
        return self._covers[wanted]

    def tightest(self, classes: int) -> Selection:
        """Return the one selector that picks all of some classes, and as few others as one can."""
        if classes not in self._tightest:
            self._tightest[classes] = self._one(classes)
        return self._tightest[classes]

    def _one(self, wanted: int) -> Selection:
        scopes, labels = self._roster.parted(wanted)
        scope = self._roster.shared_scope(scopes)
        everybody = self._roster.under(scope)
        requirements = self._requirements([values.keys() for values in labels], everybody)
        tight = everybody
        for requirement in requirements:
            tight &= requirement.met
        needed = self._fewest(requirements, everybody, tight)
        expressions = tuple(e for r in sorted(needed, key=lambda r: r.rank) for e in r.expressions)
        return Selection(scope=scope, expressions=expressions, chosen=self._roster.members(tight), classes=tight)

    def _fewest(self, requirements: list[_Requirement], everybody: int, tight: int) -> tuple[_Requirement, ...]:
        """Leave out the requirements that do nothing beside the others."""
        ordered = sorted(requirements, key=lambda r: r.weight)
        for number in range(min(_TOGETHER, len(ordered)) + 1):
            found = [some for some in itertools.combinations(ordered, number) if _met(some, everybody) == tight]
            if found:
                return min(found, key=lambda some: sum(r.weight[0] for r in some))
        kept = tuple(ordered)
        for requirement in reversed(ordered):
            fewer = tuple(r for r in kept if r is not requirement)
            if _met(fewer, everybody) == tight:
                kept = fewer
        return kept

    def _requirements(self, mine: Sequence[AbstractSet[str | None]], everybody: int) -> list[_Requirement]:
        """Return what each label, whose values these are, has to be like: which values it has before which it has not."""
        found, left = [], everybody
        for listed in (True, False):
            for rank, (key, values) in enumerate(zip(self._roster.keys, mine, strict=True)):
                if (None not in values and len(values) <= MOST_VALUES) is listed:
                    expressions, met = self._listed(key, values) if listed else self._others(key, values, left)
                    if left & ~met:
                        found.append(_Requirement(expressions, met, rank))
            for requirement in found:
                left &= requirement.met
        return found

    def _listed(self, key: str, mine: AbstractSet[str | None]) -> tuple[tuple[Expression, ...], int]:
        """Require a label to have one of the values given."""
        named = frozenset(value for value in mine if value is not None)
        return (Expression(key=key, operator=Operator.IN, values=named),), self._roster.with_values(key, named)

    def _others(self, key: str, mine: AbstractSet[str | None], left: int) -> tuple[tuple[Expression, ...], int]:
        """Require a label to have none of the other values that it has on the VMs that are ``left``."""
        having = self._roster.having(key)
        if mine == {None}:
            return (Expression(key=key, operator=Operator.DOES_NOT_EXIST),), ~having
        others: set[str] = set()
        for value in self._roster.values_of(key, left):
            if value not in mine:
                others.add(value)
                if len(others) > MOST_VALUES:
                    break
        few = 0 < len(others) <= MOST_VALUES
        without = (Expression(key=key, operator=Operator.NOT_IN, values=frozenset(others)),) if few else ()
        met = ~self._roster.with_values(key, others) if few else -1
        if None in mine or not left & ~having:
            return without, met
        return (Expression(key=key, operator=Operator.EXISTS), *without), met & having

    def _split(self, wanted: int, classes: int, room: int) -> tuple[Selection, ...]:
        """Cover those of the wanted VMs that are of some classes by up to ``room`` selectors where one does not do."""
        whole = self.tightest(classes)
        best: tuple[Selection, ...] = (whole,)
        mine = self._roster.members(classes) & wanted
        excess = (whole.chosen & ~mine).bit_count()
        if not excess or room == 1:
            return best
        for groups in self._groupings(classes, room):
            parts = [self.tightest(group) for group in groups]
            more = (union(part.chosen for part in parts) & ~mine).bit_count()
            if (more, len(parts)) < (excess, len(best)):
                firsts = [_lowest(self._roster.members(group) & wanted) for group in groups]
                best = tuple(part for _, part in sorted(zip(firsts, parts, strict=True), key=lambda pair: pair[0]))
                excess = more
        if len(best) == 1:
            return best
        spare = room - len(best)
        deeper: list[Selection] = []
        for part in best:
            exact = part.chosen & mine == part.chosen
            finer = (part,) if exact else self._split(wanted, part.classes & classes, spare + 1)
            spare -= len(finer) - 1
            deeper += finer
        return tuple(deeper)

    def _groupings(self, classes: int, room: int) -> Iterator[list[int]]:
        """Go through the ways to part classes by one thing: their scope, or a label."""
        scopes, labels = self._roster.parted(classes)
        for groups in (list(scopes.values()), *(list(values.values()) for values in labels)):
            if 1 < len(groups) <= room:
                yield groups

    def _joined(self, parts: tuple[Selection, ...]) -> tuple[Selection, ...]:
        """Make one of two selectors where that picks nobody else."""
        chosen = union(part.chosen for part in parts)
        for one, other in itertools.combinations(parts, 2):
            both = self.tightest(one.classes | other.classes)
            if not both.chosen & ~chosen:
                rest = tuple(part for part in parts if part not in {one, other})
                return self._joined((*rest, both))
        return parts


def _met(requirements: tuple[_Requirement, ...], everybody: int) -> int:
    for requirement in requirements:
        everybody &= requirement.met
    return everybody


def _lowest(mask: int) -> int:
    return mask & -mask


def _weight(expression: Expression) -> int:
    """Weigh what there is to read; what a VM is not says less than what it is, and is met by whatever comes later."""
    if is_plain(expression):
        return 1
    return 2 + len(expression.values) + (0 if expression.operator is Operator.IN else 2)


def is_plain(expression: Expression) -> bool:
    """Say whether it can be written among ``matchLabels``."""
    return expression.operator is Operator.IN and len(expression.values) == 1
