"""Relocations: moves that one plan made. Their moves are rows of ``moves`` that name them, so what is done and under way follows from those."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from serai.migration.relocation import Standing
from serai.store import times
from serai.store.errors import RelocationError
from serai.store.leadership import require_term
from serai.store.ledger import Ledger, whole
from serai.store.records import Entry, RelocationRecord
from serai.store.schema import RELOCATIONS
from serai.store.words import Words, is_number

_OPEN: Final = RELOCATIONS.c.ended.is_(None)
_ALL: Final = [column for column in RELOCATIONS.c if column is not RELOCATIONS.c.plan]
"""A plan can be long, and seldom matters."""


class Relocations:
    """All relocations that there ever were."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep them there."""
        self._ledger = ledger

    @whole
    async def begin(self, new: RelocationRecord, plan: str, entry: Entry, now: datetime) -> RelocationRecord:
        """Write down that somebody wants a plan carried out; the controller that leads does it. Its number is found here.

        Raises:
            RelocationError: another one is being carried out.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await _require_none(act.connection)
            values = {
                "id": new.id, "goal": new.goal, "limits": new.limits, "plan": plan, "moves": new.moves, "stuck": new.stuck,
                "by": new.by, "asked": times.write(now), "state": Standing.RUNNING, "why": "", "version": 1,
            }  # fmt: skip
            await act.connection.execute(sa.insert(RELOCATIONS).values(**values))
            act.detail["relocation"] = new.id
            return await _found(act.connection, new.id)

    @whole
    async def keep(self, id_: str, why: str, *, term: int) -> None:
        """Write down why a relocation begins nothing just now; empty: nothing keeps it from that.

        Raises:
            DeposedError: the leader of ``term`` is none any more.
            RelocationError: it has ended before.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.writing() as connection:
            await require_term(connection, term)
            await _change(connection, id_, why=why)

    @whole
    async def end(
        self, id_: str, state: Standing, why: str, entry: Entry, *, term: int, now: datetime
    ) -> RelocationRecord:
        """Write down how a relocation ended; that is on record in the audit log, too. It ends once.

        Raises:
            DeposedError: the leader of ``term`` is none any more.
            RelocationError: it has ended before.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await require_term(act.connection, term)
            act.detail["relocation"] = id_
            await _change(act.connection, id_, state=state, why=why, ended=times.write(now))
            return await _found(act.connection, id_)

    @whole
    async def ask_stop(self, id_: str, by: str, entry: Entry, now: datetime) -> None:
        """Write down that somebody wants no more of its moves to begin; who wanted it first stays.

        Raises:
            RelocationError: it is over.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            act.detail["relocation"] = id_
            await _change(act.connection, id_, stop=sa.func.coalesce(RELOCATIONS.c.stop, sa.literal(by, Words())))

    # What is known

    @whole
    async def require_none(self) -> None:
        """Let go on who wants a plan carried out while no other is.

        Raises:
            RelocationError: another one is being carried out.
        """
        async with self._ledger.reading() as connection:
            await _require_none(connection)

    @whole
    async def one(self, name: str) -> RelocationRecord | None:
        """Return a relocation by its id, or by its number; None: there is none."""
        which = RELOCATIONS.c.number == int(name) if is_number(name) else RELOCATIONS.c.id == name
        async with self._ledger.reading() as connection:
            row = (await connection.execute(sa.select(*_ALL).where(which))).first()
            return _read(row) if row else None

    @whole
    async def plan(self, id_: str) -> str:
        """Return the plan of a relocation that there is."""
        async with self._ledger.reading() as connection:
            asked = sa.select(RELOCATIONS.c.plan).where(RELOCATIONS.c.id == id_)
            return str((await connection.execute(asked)).scalar_one())

    @whole
    async def open(self) -> list[RelocationRecord]:
        """Return the relocations that are not over: one, or none."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(*_ALL).where(_OPEN).order_by(RELOCATIONS.c.number))
            return [_read(row) for row in rows]

    @whole
    async def latest(self, *, before: int | None, limit: int) -> list[RelocationRecord]:
        """Return relocations, the latest first."""
        asked = sa.select(*_ALL).order_by(RELOCATIONS.c.number.desc()).limit(limit)
        if before is not None:
            asked = asked.where(RELOCATIONS.c.number < before)
        async with self._ledger.reading() as connection:
            return [_read(row) for row in await connection.execute(asked)]


async def _require_none(connection: AsyncConnection) -> None:
    asked = sa.select(RELOCATIONS.c.number, RELOCATIONS.c.by).where(_OPEN)
    if (row := (await connection.execute(asked)).first()) is not None:
        raise RelocationError(
            f"relocation {row.number}, which {row.by} asked for, is not over, and one is carried out at a time: each counts on room that "
            f"another would take; wait for it (`serai relocations show {row.number}`), or stop it (`serai relocations stop {row.number}`)"
        )


async def _change(connection: AsyncConnection, id_: str, **what: object) -> None:
    asked = sa.update(RELOCATIONS).where(RELOCATIONS.c.id == id_, _OPEN)
    changed = await connection.execute(asked.values(version=RELOCATIONS.c.version + 1, **what))
    if changed.rowcount != 1:
        raise RelocationError("this relocation is over")


async def _found(connection: AsyncConnection, id_: str) -> RelocationRecord:
    return _read((await connection.execute(sa.select(*_ALL).where(RELOCATIONS.c.id == id_))).one())


def _read(row: sa.Row[tuple[object, ...]]) -> RelocationRecord:
    told = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for a row by column)
    return RelocationRecord(
        number=told["number"], id=told["id"], goal=told["goal"], limits=told["limits"], moves=told["moves"], stuck=told["stuck"],
        by=told["by"], asked=times.read(told["asked"]), state=Standing(told["state"]), why=told["why"], stop=told["stop"],
        version=told["version"], ended=times.read_any(told["ended"]),
    )  # fmt: skip
