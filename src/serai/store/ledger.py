"""One transaction at a time, with what the audit log says of it: either both are there, or neither is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serai.model.checkpoint import Checkpoint, Signer
from serai.model.merkle import Frontier, leaf_hash
from serai.store import times
from serai.store.engine import is_postgresql, reads, translated, writes
from serai.store.records import Entry
from serai.store.schema import AUDIT, HEAD

ONLY: Final = 1
"""The one row of ``head``."""

P = ParamSpec("P")
T = TypeVar("T")


class Ledger:
    """Opens transactions."""

    def __init__(self, engine: AsyncEngine, signer: Signer) -> None:
        """Nothing is opened yet."""
        self.engine = engine
        """What it connects by."""
        self._reads, self._writes = reads(engine), writes(engine)
        self._signer = signer
        # SQLite lets one write at a time, and whoever must wait asks again and again: here they stand in a line.
        self._turn = contextlib.nullcontext() if is_postgresql(engine.dialect) else asyncio.Lock()
        self._works: set[asyncio.Task[Any]] = set()

    async def carry_out(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, also if whoever waits for it is cancelled.

        A transaction that is broken off between two words of it would keep its locks until somebody notices.
        """
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it hears of it; if nobody does, nobody need

    async def close(self) -> None:
        """Let go of all connections, once all that was begun is done."""
        while self._works:
            await asyncio.wait(self._works)
        await self.engine.dispose()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Look at the database as it is at one time.

        Raises:
            StoreError: it does not answer.
        """
        with translated():
            async with self._reads.connect() as connection, connection.begin():
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Write what need not be on record; all of it, or nothing.

        Raises:
            StoreError: it does not answer, or is full; nothing has been written.
        """
        with translated():
            async with self._turn, self._writes.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def acting(self, entry: Entry, now: datetime) -> AsyncIterator[Act]:
        """Do something that is on record: all of it, or nothing. Nobody else writes meanwhile.

        Raises:
            StoreError: the database does not answer, or is full; nothing has been done.
        """
        async with self.writing() as connection:
            row = (await connection.execute(sa.select(HEAD).where(HEAD.c.id == ONLY).with_for_update())).one()
            act = Act(connection, seq=row.size, revision=row.revision, hosts=row.hosts, detail=dict(entry.detail))
            yield act
            body = _body(row.size, act, entry, now)
            hashed = leaf_hash(body)
            await connection.execute(
                sa.insert(AUDIT).values(
                    seq=row.size, scope=entry.scope, who=entry.who, verb=entry.verb, body=body, hash=hashed
                )
            )
            frontier = Frontier.decode(row.frontier).append(hashed)
            await connection.execute(
                sa.update(HEAD).where(HEAD.c.id == ONLY).values(
                    revision=act.revision, hosts=act.hosts, **_top(frontier, self._signer)
                )
            )  # fmt: skip


class Bookkeeper(Protocol):
    """Whoever has a ledger."""

    _ledger: Ledger


B = TypeVar("B", bound=Bookkeeper)


def whole(
    method: Callable[Concatenate[B, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[B, P], Coroutine[Any, Any, T]]:
    """Make of a method one that is never broken off; see ``Ledger.carry_out``."""

    @functools.wraps(method)
    async def carried_out(self: B, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._ledger.carry_out(method(self, *args, **kwargs))

    return carried_out


class Act:
    """Something that is being done."""

    def __init__(
        self, connection: AsyncConnection, *, seq: int, revision: int, hosts: int, detail: dict[str, Any]
    ) -> None:
        """``revision`` and ``hosts`` are as they were; who sets them makes them otherwise."""
        self.connection = connection
        self.seq = seq
        """The number of its record in the audit log."""
        self.revision = revision
        self.hosts = hosts
        self.detail = detail
        """What the record says in the end."""


def begin(connection: sa.Connection, signer: Signer) -> None:
    """Make the first row of all, where there is none yet."""
    if connection.execute(sa.select(HEAD.c.id)).first() is None:
        connection.execute(sa.insert(HEAD).values(id=ONLY, revision=0, hosts=0, **_top(Frontier(), signer)))


def _top(frontier: Frontier, signer: Signer) -> dict[str, Any]:
    note = Checkpoint(origin=signer.origin, size=frontier.size, root=frontier.root).signed(signer)
    return {"size": frontier.size, "frontier": frontier.encode(), "checkpoint": note}


def _body(seq: int, act: Act, entry: Entry, now: datetime) -> bytes:
    told = {
        "seq": seq, "at": times.write(now), "who": entry.who, "verb": entry.verb, "object": entry.object,
        "scope": entry.scope, "outcome": entry.outcome, "detail": act.detail, "revision": act.revision,
    }  # fmt: skip
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Halves of surrogate pairs have no bytes; so written they are what JSON calls them.
    return text.encode(errors="backslashreplace")
