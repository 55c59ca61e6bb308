"""Moves of VMs: what is asked for, how far each has come, and the receipts of those that are over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from serai.migration.states import State
from serai.model.migration import Facts, Receipt, Step, Ticket
from serai.store import times
from serai.store.errors import MoveError
from serai.store.leadership import require_term
from serai.store.ledger import Ledger, whole
from serai.store.records import Entry, MoveRecord, Tally
from serai.store.schema import MOVES
from serai.store.words import Words, is_number

_OPEN: Final = MOVES.c.ended.is_(None)
_NOTHING: Final = Facts()


class _Story(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a move, and nobody looks for."""

    reached: Step = Step.PLANNED
    ticket: Ticket | None = None
    address: str = ""
    digest: str = ""
    here: Facts = Facts()
    there: Facts = Facts()
    why: str = ""
    note: str = ""
    migrate: bool = True


class Moves:
    """All moves that there ever were."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep them there."""
        self._ledger = ledger

    @whole
    async def ask(
        self,
        *,
        id_: str,
        vm: str,
        to: str,
        by: str,
        entry: Entry,
        now: datetime,
        migrate: bool = True,
        there: Facts = _NOTHING,
        relocation: str | None = None,
        term: int | None = None,
    ) -> MoveRecord:
        """Write down that somebody wants a VM to move; it waits for the controller that leads.

        Without ``migrate`` somebody moves the guest already; ``there`` is what the destination has told before it begins.
        With ``relocation`` it is part of that one, and the leader of ``term`` asks.

        Raises:
            DeposedError: the leader of ``term`` is none any more.
            MoveError: it is being moved already.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await require_term(act.connection, term)
            await _require_none(act.connection, vm)
            last = sa.select(sa.func.coalesce(sa.func.max(MOVES.c.epoch), 0)).where(MOVES.c.vm == vm)
            epoch = int((await act.connection.execute(last)).scalar_one()) + 1
            values = {
                "id": id_, "vm": vm, "source": "", "destination": to, "by": by, "asked": times.write(now), "epoch": epoch,
                "state": State.WAITING, "since": times.write(now), "version": 1,
                "story": _written(_Story(migrate=migrate, there=there)), "relocation": relocation,
            }  # fmt: skip
            await act.connection.execute(sa.insert(MOVES).values(**values))
            act.detail |= {"move": id_, "epoch": epoch}
            return await _found(act.connection, MOVES.c.id == id_)

    @whole
    async def keep(self, move: MoveRecord, *, term: int) -> None:
        """Write down how far a move has come.

        Raises:
            DeposedError: the leader of ``term`` is none any more.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.writing() as connection:
            await require_term(connection, term)
            await _put(connection, move)

    @whole
    async def end(
        self, move: MoveRecord, receipt: Receipt | None, entry: Entry, *, term: int, now: datetime
    ) -> MoveRecord:
        """Write down how a move ended, with its receipt, where it ever had a ticket; that is on record in the audit log, too. It ends once.

        Raises:
            DeposedError: the leader of ``term`` is none any more.
            MoveError: it has ended before.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await require_term(act.connection, term)
            act.detail |= {"move": move.id, "receipt": None if receipt is None else msgspec.to_builtins(receipt)}
            await _put(
                act.connection, move, ended=times.write(now), receipt=None if receipt is None else _written(receipt), audit=act.seq
            )  # fmt: skip
            return await _found(act.connection, MOVES.c.id == move.id)

    @whole
    async def ask_abort(self, id_: str, by: str, entry: Entry, now: datetime) -> None:
        """Write down that somebody wants a move aborted; who wanted it first stays.

        Raises:
            MoveError: it is over.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            act.detail["move"] = id_
            asked = sa.update(MOVES).where(MOVES.c.id == id_, _OPEN)
            changed = await act.connection.execute(
                asked.values(abort=sa.func.coalesce(MOVES.c.abort, sa.literal(by, Words())))
            )
            if changed.rowcount != 1:
                raise MoveError(f"move {id_} is over")

    # What is known

    @whole
    async def require_none(self, vm: str) -> None:
        """Let go on who wants a VM to move that is not being moved.

        Raises:
            MoveError: it is.
        """
        async with self._ledger.reading() as connection:
            await _require_none(connection, vm)

    @whole
    async def one(self, name: str) -> MoveRecord | None:
        """Return a move by its id, or by its number; None: there is none."""
        which = MOVES.c.number == int(name) if is_number(name) else MOVES.c.id == name
        async with self._ledger.reading() as connection:
            row = (await connection.execute(sa.select(MOVES).where(which))).first()
            return _read(row) if row else None

    @whole
    async def open(self) -> list[MoveRecord]:
        """Return all moves that are not over, in order."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(MOVES).where(_OPEN).order_by(MOVES.c.number))
            return [_read(row) for row in rows]

    @whole
    async def of(self, relocation: str, *, ended: int | None = None) -> tuple[Tally, list[MoveRecord]]:
        """Count how the moves of a relocation stand at one time, and return those that have begun, in order.

        With ``ended``, of those that are over the latest so many.
        """
        mine = MOVES.c.relocation == relocation
        asked = sa.select(MOVES).where(mine).order_by(MOVES.c.number)
        if ended is not None:
            over = sa.select(MOVES.c.id).where(mine, ~_OPEN).order_by(MOVES.c.ended.desc()).limit(ended)
            asked = asked.where(sa.or_(_OPEN, MOVES.c.id.in_(over)))
        async with self._ledger.reading() as connection:
            found = await _tallies(connection, [relocation])
            rows = await connection.execute(asked)
            return found.get(relocation, Tally()), [_read(row) for row in rows]

    @whole
    async def some(self, ids: Collection[str]) -> list[MoveRecord]:
        """Return moves by their ids, in order; those that there are."""
        async with self._ledger.reading() as connection:
            asked = sa.select(MOVES).where(MOVES.c.id.in_(sorted(ids))).order_by(MOVES.c.number)
            return [_read(row) for row in await connection.execute(asked)]

    @whole
    async def tallies(self, relocations: Collection[str]) -> dict[str, Tally]:
        """Count how the moves of relocations stand; those of which none has begun are left out."""
        async with self._ledger.reading() as connection:
            return await _tallies(connection, relocations)

    @whole
    async def latest(
        self,
        *,
        vm: str | None = None,
        host: str | None = None,
        still_open: bool = False,
        before: int | None,
        limit: int,
    ) -> list[MoveRecord]:
        """Return moves, the latest first: of a VM, from or to a host, those that are not over."""
        asked = sa.select(MOVES).order_by(MOVES.c.number.desc()).limit(limit)
        if vm is not None:
            asked = asked.where(MOVES.c.vm == vm)
        if host is not None:
            asked = asked.where(sa.or_(MOVES.c.source == host, MOVES.c.destination == host))
        if still_open:
            asked = asked.where(_OPEN)
        if before is not None:
            asked = asked.where(MOVES.c.number < before)
        async with self._ledger.reading() as connection:
            return [_read(row) for row in await connection.execute(asked)]


async def _tallies(connection: AsyncConnection, relocations: Collection[str]) -> dict[str, Tally]:
    count, state = sa.func.count(), MOVES.c.state
    asked = sa.select(
        MOVES.c.relocation, count.filter(state == State.DONE).label("done"), count.filter(state == State.ABORTED).label("aborted"),
        count.filter(_OPEN).label("under_way"), sa.func.sum(MOVES.c.version).label("versions"),
    ).where(MOVES.c.relocation.in_(sorted(relocations))).group_by(MOVES.c.relocation)  # fmt: skip
    return {
        row.relocation: Tally(done=row.done, aborted=row.aborted, under_way=row.under_way, versions=int(row.versions))
        for row in await connection.execute(asked)
    }


async def _require_none(connection: AsyncConnection, vm: str) -> None:
    asked = sa.select(MOVES.c.number, MOVES.c.destination).where(MOVES.c.vm == vm, _OPEN)
    if (row := (await connection.execute(asked)).first()) is not None:
        raise MoveError(f"{vm} is being moved to host {row.destination} already: that is move {row.number}")


async def _put(connection: AsyncConnection, move: MoveRecord, **end: object) -> None:
    story = _Story(
        reached=move.reached, ticket=move.ticket, address=move.address, digest=move.digest, here=move.here,
        there=move.there, why=move.why, note=move.note, migrate=move.migrate,
    )  # fmt: skip
    asked = sa.update(MOVES).where(MOVES.c.id == move.id, _OPEN)
    changed = await connection.execute(
        asked.values(
            source=move.source, state=move.state, since=times.write(move.since), version=move.version,
            story=_written(story), **end,
        )
    )  # fmt: skip
    if changed.rowcount != 1:
        raise MoveError(f"move {move.number} is over")


async def _found(connection: AsyncConnection, which: sa.ColumnElement[bool]) -> MoveRecord:
    return _read((await connection.execute(sa.select(MOVES).where(which))).one())


def _written(what: msgspec.Struct) -> str:
    return msgspec.json.encode(what).decode()


def _read(row: sa.Row[tuple[object, ...]]) -> MoveRecord:
    told = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for a row by column)
    story = msgspec.json.decode(told["story"], type=_Story)
    receipt = told["receipt"]
    return MoveRecord(
        number=told["number"], id=told["id"], vm=told["vm"], source=told["source"], to=told["destination"], by=told["by"],
        asked=times.read(told["asked"]), epoch=told["epoch"], state=State(told["state"]), since=times.read(told["since"]),
        version=told["version"], reached=story.reached, ticket=story.ticket, address=story.address, digest=story.digest,
        here=story.here, there=story.there, why=story.why, note=story.note, abort=told["abort"], ended=times.read_any(told["ended"]),
        receipt=None if receipt is None else msgspec.json.decode(receipt, type=Receipt), audit=told["audit"], migrate=story.migrate,
        relocation=told["relocation"] or "",
    )  # fmt: skip
