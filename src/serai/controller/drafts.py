"""Changes before they are made: what somebody wishes, on top of what is in force, looked at from all sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from serai.access.change import Change, may_change
from serai.access.decide import Caller, Refused
from serai.controller.current import Current, Edition
from serai.controller.errors import ForbiddenError, NotFoundError, StaleError
from serai.controller.requests import invalid, scope_of
from serai.model.catalog import Catalog, Key, read_files, read_stored
from serai.model.change import Bodies, Step, digest, steps
from serai.model.definitions import Complaints, Definition
from serai.model.resolve import unique
from serai.model.resources import Resource
from serai.model.tenancy import ROOT, Scope
from serai.model.update import Update
from serai.store.store import Store
from serai.wire import api

Definitions = Mapping[Key, Definition[Resource] | None]
"""What resources shall be; None: gone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """A change that may be made: who wishes it, and what comes out, have been looked at."""

    edition: Edition
    """What it was checked against."""
    definitions: Definitions
    """What is otherwise afterwards, and nothing else."""
    steps: tuple[Step, ...]
    changes: Sequence[Change]
    """The same, for those who decide who may."""
    digest: str
    catalog: Catalog
    """What comes out."""
    update: Update

    @property
    def writes(self) -> Bodies:
        """What is written, as text."""
        return {key: made.body if made else None for key, made in self.definitions.items()}

    @property
    def scope(self) -> Scope:
        """The narrowest scope that holds all of it."""
        return common_scope(self.definitions)


class Wish(Protocol):
    """What somebody wishes resources to be; it depends on what they are."""

    async def on(self, edition: Edition) -> Definitions:
        """Say it for what is in force now."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """Resources shall be as files say."""

    request: api.ChangeRequest
    store: Store
    current: Current

    async def on(self, edition: Edition) -> Definitions:
        """Read the files, and add what is to be deleted.

        Raises:
            DefinitionErrors: what is written is wrong.
            NotFoundError: what is to be deleted is not there.
            StaleError: somebody else has changed it since the author looked.
            InvalidError: the request contradicts itself.
        """
        wished: dict[Key, Definition[Resource] | None] = {**await self.current.work(_read, self.request.files)}
        gone = {*self._deleted(edition), *self._pruned(edition, wished)}
        if both := sorted(gone & wished.keys()):
            raise invalid("delete", f"{both[0]} is to be deleted, and stands in a file too: take it out of one")
        wished |= dict.fromkeys(gone)
        await self._require_fresh(wished, edition)
        return wished

    def _deleted(self, edition: Edition) -> Iterable[Key]:
        for named in self.request.delete:
            key = Key(named.kind, named.path)
            if edition.body(key) is None:
                raise NotFoundError(f"there is no {key} to delete")
            yield key

    def _pruned(self, edition: Edition, wished: Definitions) -> Iterable[Key]:
        if self.request.prune is None:
            return ()
        within = scope_of("prune", self.request.prune)
        return [key for key in edition.written if within.contains(key.scope) and key not in wished]

    async def _require_fresh(self, wished: Definitions, edition: Edition) -> None:
        base = self.request.base
        if base is None:
            return
        if base > edition.revision:
            raise invalid("base", f"there is no revision {base} yet: the latest is {edition.revision}")
        changed = {
            key: committed
            for committed in await self.store.revisions.since(base)
            for key in committed.writes.keys() & wished.keys()
            if _body(wished[key]) != edition.body(key)
        }
        if changed:
            faults = [
                api.Fault(
                    where=f"revision {by.number}",
                    resource=str(key),
                    message=f"was changed by {by.by} at {by.at:%F %T} UTC",
                )
                for key, by in sorted(changed.items())
            ]
            raise StaleError(
                f"{faults[0].resource} {faults[0].message}, after revision {base}, which you have seen: look at it again",
                faults=faults,
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Bodily:
    """Resources shall be as these texts say, which were in force once, or were proposed."""

    bodies: Bodies

    async def on(self, edition: Edition) -> Definitions:
        """Read them."""
        return {
            key: None if body is None else read_stored(key, body, edition.revision + 1)
            for key, body in self.bodies.items()
            if body is not None or edition.body(key) is not None
        }


@dataclasses.dataclass(frozen=True, slots=True)
class AsAt:
    """Everything in a scope shall be as it was at a revision."""

    revision: int
    scope: Scope
    store: Store

    async def on(self, edition: Edition) -> Definitions:
        """Look what is otherwise now.

        Raises:
            NotFoundError: there is no such revision.
        """
        if not 0 <= self.revision <= edition.revision:
            raise NotFoundError(f"there is no revision {self.revision}: the latest is {edition.revision}")
        was = await self.store.revisions.at(self.revision)
        bodies = {key: was.get(key) for key in was.keys() | edition.written.keys() if self.scope.contains(key.scope)}
        return await Bodily({key: body for key, body in bodies.items() if body != edition.body(key)}).on(edition)


class Drafter:
    """Makes drafts of wishes."""

    def __init__(self, current: Current) -> None:
        """On top of what is in force there."""
        self._current = current

    async def draft(self, who: Caller | None, wish: Wish) -> Draft:
        """Look at a wish: is it well-formed, allowed to this person (None: nobody's wish), and sound with all that is in force?

        Raises:
            ForbiddenError: this person may not.
            DefinitionErrors: it contradicts what is in force.
            Exception: what the wish itself raises.
        """
        edition = await self._current.catch_up()
        wished = await wish.on(edition)
        before = {key: edition.body(key) for key in wished}
        taken = steps(before, {key: _body(made) for key, made in wished.items()})
        definitions = {step.key: wished[step.key] for step in taken}
        changes = [
            Change(before=_resource(edition.catalog.get(key)), after=_resource(made))
            for key, made in definitions.items()
        ]
        if who is not None and isinstance(verdict := may_change(who, changes), Refused):
            raise ForbiddenError(verdict.why)
        catalog, update = await self._current.work(edition.catalog.changed, definitions)
        return Draft(
            edition=edition, definitions=definitions, steps=taken, changes=changes, catalog=catalog, update=update,
            digest=digest(before, {key: _body(made) for key, made in definitions.items()}),
        )  # fmt: skip


def common_scope(keys: Iterable[Key]) -> Scope:
    """Return the narrowest scope that holds all of them; ``/`` for none."""
    scopes = {key.scope for key in keys}
    return next(
        (scope for scope in reversed(min(scopes, key=len).lineage) if all(map(scope.contains, scopes))) if scopes else iter(()),
        ROOT,
    )  # fmt: skip


def _body(definition: Definition[Resource] | None) -> str | None:
    return definition.body if definition else None


def _resource(definition: Definition[Resource] | None) -> Resource | None:
    return definition.resource if definition else None


def _read(files: Mapping[str, str]) -> dict[Key, Definition[Resource]]:
    """Read files; nothing may be defined twice."""
    complaints = Complaints()
    found = unique(read_files(files), complaints)
    complaints.settle()
    return dict(found)
