"""Who can open what to whom, in as few blocks as is easily found: each of these to each of those, on these ports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from serai.policy.questions.classes import Class
from serai.policy.questions.portset import NOTHING, PortSet, atoms

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block(Generic[K]):
    """Each of the sources can open the ports to each of the targets."""

    sources: tuple[Class[K], ...]
    targets: tuple[Class[K], ...]
    ports: PortSet


def blocks(
    sources: Sequence[Class[K]], targets: Sequence[Class[K]], ports: Callable[[K, K], PortSet]
) -> list[Block[K]]:
    """Put what is alike together: every pair has every one of its ports in some block.

    What a vNIC could open to itself may be in a block, and is never one by itself: it passes no gate.
    """
    table = _Table()
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            found = ports(source.key, target.key)
            if found:
                table.add(i, j, found)
    made = (
        Block(
            sources=tuple(sources[i] for i in _numbers(ones)),
            targets=tuple(targets[j] for j in _numbers(others)),
            ports=found,
        )
        for ones, others, found in sorted(table.cover(), key=lambda one: (one[0] & -one[0], one[1] & -one[1]))
    )
    return [block for block in made if meet(block.sources, block.targets)]


def meet(sources: Iterable[Class[K]], targets: Iterable[Class[K]]) -> bool:
    """Say whether any connection goes from one to the other: what a vNIC sends to itself passes no gate."""
    one, other = list(sources), list(targets)
    if not one or not other:
        return False
    if any(found.atoms for found in (*one, *other)):
        return True
    first = one[0].endpoints[0].vnic.id
    return any(end.vnic.id != first for found in (*one, *other) for end in found.endpoints)


_Relation = dict[int, int]
"""By row, the columns that it has something to do with; sets of numbers are kept as bits."""


class _Table:
    """Pairs of a row and a column, each with ports."""

    def __init__(self) -> None:
        self._sets: dict[PortSet, int] = {}
        self._rows: dict[int, dict[int, int]] = {}

    def add(self, row: int, column: int, ports: PortSet) -> None:
        number = self._sets.setdefault(ports, len(self._sets))
        across = self._rows.setdefault(row, {})
        across[number] = across.get(number, 0) | 1 << column

    def cover(self) -> Iterator[tuple[int, int, PortSet]]:
        """Go through rows, columns, and ports that all of them have in common, until every pair was met.

        What holds for most ports comes first, then what holds for most pairs. Each takes along all ports that it can,
        except those of which everything has been told.
        """
        relations = [(ports, self._relation(sets)) for sets, ports in atoms(list(self._sets)).items()]
        relations.sort(key=lambda one: (not one[0].others, -sum(map(int.bit_count, one[1].values())), one[0].named))
        left = [dict(relation) for _, relation in relations]
        for at in range(len(relations)):
            for ones, others in _rectangles(left[at]):
                found = NOTHING
                rows = list(_numbers(ones))
                for number, (ports, relation) in enumerate(relations):
                    if not any(left[number].get(row, 0) & others for row in rows):
                        continue
                    if all(relation.get(row, 0) & others == others for row in rows):
                        found |= ports
                        _take(left[number], rows, others)
                yield ones, others, found

    def _relation(self, sets: int) -> _Relation:
        """Return who has any of the sets at which places."""
        found: _Relation = {}
        for row, across in self._rows.items():
            for number, columns in across.items():
                if sets >> number & 1:
                    found[row] = found.get(row, 0) | columns
        return found


def _take(relation: _Relation, rows: Iterable[int], columns: int) -> None:
    for row in rows:
        if row in relation:
            relation[row] &= ~columns


def _rectangles(relation: _Relation) -> list[tuple[int, int]]:
    """Cover a relation by rows that have the same columns, or columns that have the same rows: what takes fewer."""
    by_rows: dict[int, int] = {}
    for row, columns in relation.items():
        if columns:
            by_rows[columns] = by_rows.get(columns, 0) | 1 << row
    down: _Relation = {}
    for columns, rows in by_rows.items():
        for column in _numbers(columns):
            down[column] = down.get(column, 0) | rows
    by_columns: dict[int, int] = {}
    for column, rows in down.items():
        by_columns[rows] = by_columns.get(rows, 0) | 1 << column
    if len(by_columns) < len(by_rows):
        return list(by_columns.items())
    return [(rows, columns) for columns, rows in by_rows.items()]


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
