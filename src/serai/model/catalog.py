"""The resources in force and the world that they make. A catalog never changes; a change makes another one, at the cost of what it touches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Self

from serai.model.definitions import Complaints, Definition
from serai.model.key import Key
from serai.model.reading import read_files, read_stored
from serai.model.resolve import resolve, unique
from serai.model.resources import Resource
from serai.model.standing import NOTHING, Changes, Standing
from serai.model.update import Update
from serai.model.world import World

__all__ = ["Catalog", "Key", "read_files", "read_stored"]


class Catalog:
    """All resources in force: every reference among them resolved, nothing held twice."""

    __slots__ = ("_standing",)

    def __init__(self, standing: Standing = NOTHING) -> None:
        """Begin with nothing."""
        self._standing = standing

    @classmethod
    def of(cls, definitions: Iterable[Definition[Resource]]) -> Self:
        """Put resources in force, whatever the order is that they come in.

        Raises:
            DefinitionErrors: they do not make a world.
        """
        complaints = Complaints()
        standing, _ = resolve(NOTHING, unique(definitions, complaints), complaints)
        complaints.settle()
        return cls(standing)

    @property
    def world(self) -> World:
        """The world that they make."""
        return self._standing.world

    def get(self, key: Key) -> Definition[Resource] | None:
        """Return the resource of that name; None where there is none."""
        return self._standing.definitions.get(key)

    def keys(self) -> Collection[Key]:
        """Return the names of all resources, in no particular order."""
        return self._standing.definitions.keys()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._standing.definitions)

    def __len__(self) -> int:
        return len(self._standing.definitions)

    def changed(self, changes: Changes) -> tuple[Self, Update]:
        """Return the catalog with some resources as ``changes`` has them (None: gone), and what is otherwise for the compiler.

        What comes out, and whether anything does, is what ``of`` makes of all resources as they are then; only what a change
        touches is looked at again. Where two resources contradict each other, the one that is in force already is right.

        Raises:
            DefinitionErrors: with these changes they do not make a world.
        """
        complaints = Complaints()
        standing, update = resolve(self._standing, changes, complaints)
        complaints.settle()
        return type(self)(standing), update
