"""Resources, and every change that was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from serai.model.key import Key
from serai.store import times
from serai.store.errors import BehindError, NotWaitingError
from serai.store.leadership import require_term
from serai.store.ledger import Act, Ledger, whole
from serai.store.proposals import carry_out
from serai.store.records import Commit, Committed, Entry, StoredResource
from serai.store.schema import HEAD, HISTORY, RESOURCES, REVISIONS

_BATCH = 500
"""Rows of one statement."""


class Revisions:
    """The history of resources, up to what is in force."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep it there."""
        self._ledger = ledger

    # What is

    @whole
    async def resources(self) -> list[StoredResource]:
        """Return all resources in force."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(RESOURCES))
            return [StoredResource(key=Key(r.kind, r.path), body=r.body, revision=r.revision) for r in rows]

    @whole
    async def head(self) -> int:
        """Return the latest revision; 0: there is none yet."""
        async with self._ledger.reading() as connection:
            return int((await connection.execute(sa.select(HEAD.c.revision))).scalar_one())

    # What was

    @whole
    async def since(self, revision: int) -> list[Committed]:
        """Return the revisions after ``revision``, in order, with what they wrote."""
        return await self._committed(REVISIONS.c.number > revision, HISTORY.c.revision > revision)

    @whole
    async def one(self, number: int) -> Committed:
        """Return a revision.

        Raises:
            LookupError: there is none of that number.
        """
        found = await self._committed(REVISIONS.c.number == number, HISTORY.c.revision == number)
        if not found:
            raise LookupError(f"there is no revision {number}")
        return found[0]

    @whole
    async def latest(self, *, before: int | None, limit: int) -> list[Committed]:
        """Return the latest revisions before one, the latest first."""
        async with self._ledger.reading() as connection:
            asked = sa.select(REVISIONS.c.number).order_by(REVISIONS.c.number.desc()).limit(limit)
            if before is not None:
                asked = asked.where(REVISIONS.c.number < before)
            numbers = (await connection.execute(asked)).scalars().all()
        if not numbers:
            return []
        last, first = numbers[0], numbers[-1]
        found = await self._committed(REVISIONS.c.number.between(first, last), HISTORY.c.revision.between(first, last))
        return found[::-1]

    @whole
    async def at(self, revision: int) -> dict[Key, str]:
        """Return all resources as they were at a revision."""
        last = (
            sa.select(HISTORY.c.kind, HISTORY.c.path, sa.func.max(HISTORY.c.revision).label("revision"))
            .where(HISTORY.c.revision <= revision)
            .group_by(HISTORY.c.kind, HISTORY.c.path)
            .subquery()
        )
        asked = sa.select(HISTORY.c.kind, HISTORY.c.path, HISTORY.c.body).join(
            last,
            sa.and_(
                HISTORY.c.kind == last.c.kind, HISTORY.c.path == last.c.path, HISTORY.c.revision == last.c.revision
            ),
        )
        async with self._ledger.reading() as connection:
            rows = await connection.execute(asked.where(HISTORY.c.body.is_not(None)))
            return {Key(row.kind, row.path): row.body for row in rows}

    @whole
    async def unconfirmed(self) -> list[Committed]:
        """Return the revisions that wait to be confirmed, in order."""
        numbers = sa.select(REVISIONS.c.number).where(REVISIONS.c.confirmed.is_(False))
        return await self._committed(REVISIONS.c.confirmed.is_(False), HISTORY.c.revision.in_(numbers))

    async def _committed(self, which: sa.ColumnElement[bool], what: sa.ColumnElement[bool]) -> list[Committed]:
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(sa.select(REVISIONS).where(which).order_by(REVISIONS.c.number))).all()
            written = (await connection.execute(sa.select(HISTORY).where(what))).all() if rows else []
        writes: dict[int, dict[Key, str | None]] = {}
        before: dict[int, dict[Key, str | None]] = {}
        for each in written:
            key = Key(each.kind, each.path)
            writes.setdefault(each.revision, {})[key] = each.body
            before.setdefault(each.revision, {})[key] = each.before
        return [
            Committed(
                number=r.number, at=times.read(r.at), by=r.by, message=r.message, digest=r.digest, reverts=r.reverts,
                confirm_by=times.read_any(r.confirm_by), confirmed=r.confirmed, proposal=r.proposal,
                writes=writes.get(r.number, {}), before=before.get(r.number, {}),
            )
            for r in rows
        ]  # fmt: skip

    # What shall be

    @whole
    async def commit(self, commit: Commit, now: datetime) -> int:
        """Make a change, all of it, and return its revision.

        Raises:
            BehindError: another was made since what it was checked against.
            DeposedError: who makes it as a leader is none any more.
            NotWaitingError: what it takes back does not wait to be confirmed any more.
            ProposalError: what it carries out is not open any more.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(commit.audit, now) as act:
            if act.revision != commit.head:
                raise BehindError(act.revision)
            await require_term(act.connection, commit.term)
            number = act.revision + 1
            if commit.reverts is not None:
                await _settle(act, commit.reverts)
            if commit.proposal is not None:
                await carry_out(act, commit.proposal, commit.audit.who, now)
            await act.connection.execute(
                sa.insert(REVISIONS).values(
                    number=number, at=times.write(now), by=commit.by, message=commit.message, digest=commit.digest,
                    confirm_by=times.write(commit.confirm_by), confirmed=commit.confirm_by is None,
                    reverts=commit.reverts, proposal=commit.proposal,
                )
            )  # fmt: skip
            await _write(act, number, commit.writes)
            act.revision = number
            act.detail["revision"] = number
        return number

    @whole
    async def confirm(self, revision: int, entry: Entry, now: datetime) -> None:
        """Let a revision stay.

        Raises:
            NotWaitingError: it does not wait for that.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await _settle(act, revision)


async def _settle(act: Act, revision: int) -> None:
    asked = sa.update(REVISIONS).where(REVISIONS.c.number == revision, REVISIONS.c.confirmed.is_(False))
    if (await act.connection.execute(asked.values(confirmed=True))).rowcount != 1:
        raise NotWaitingError(f"revision {revision} does not wait to be confirmed")


async def _write(act: Act, number: int, writes: Mapping[Key, str | None]) -> None:
    keys = list(writes)
    before: dict[Key, str] = {}
    for some in _batches(keys):
        named = sa.tuple_(RESOURCES.c.kind, RESOURCES.c.path).in_([tuple(key) for key in some])
        rows = await act.connection.execute(sa.select(RESOURCES).where(named))
        before |= {Key(row.kind, row.path): row.body for row in rows}
        gone = [key for key in some if key in before]
        if gone:
            named = sa.tuple_(RESOURCES.c.kind, RESOURCES.c.path).in_([tuple(key) for key in gone])
            await act.connection.execute(sa.delete(RESOURCES).where(named))
    history: list[dict[str, Any]] = [
        {"revision": number, "kind": key.kind, "path": key.path, "body": writes[key], "before": before.get(key)}
        for key in keys
    ]
    resources = [
        {"kind": key.kind, "path": key.path, "body": writes[key], "revision": number}
        for key in keys
        if writes[key] is not None
    ]
    if history:
        await act.connection.execute(sa.insert(HISTORY), history)
    if resources:
        await act.connection.execute(sa.insert(RESOURCES), resources)


def _batches(keys: Sequence[Key]) -> list[Sequence[Key]]:
    return [keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)]
