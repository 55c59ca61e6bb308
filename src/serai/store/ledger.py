"""One transaction at a time, with what the audit log says of it: either both are there, or neither is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serai.model.checkpoint import Checkpoint, Signer
from serai.model.merkle import Frontier, leaf_hash
from serai.store import times
from serai.store.engine import WRITES, explained
from serai.store.records import Entry
from serai.store.schema import AUDIT, HEAD

ONLY: Final = 1
"""The one row of ``head``."""


class Ledger:
    """Opens transactions."""

    def __init__(self, engine: AsyncEngine, signer: Signer) -> None:
        """Nothing is opened yet."""
        self._reads = engine
        self._writes = engine.execution_options(**{WRITES: True})
        self._signer = signer

    @property
    def engine(self) -> AsyncEngine:
        """What it connects by."""
        return self._reads

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
            async with self._writes.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def acting(self, entry: Entry, now: datetime) -> AsyncIterator[Act]:
        """Do something that is on record: all of it, or nothing. Nobody else writes meanwhile.

        Raises:
            StoreError: the database does not answer, or is full; nothing has been done.
        """
        async with self.writing() as connection:
            row = (await connection.execute(sa.select(HEAD).where(HEAD.c.id == ONLY).with_for_update())).one()
            act = Act(connection, revision=row.revision, hosts=row.hosts, detail=dict(entry.detail))
            yield act
            seq = row.size
            body = json.dumps(
                {
                    "seq": seq, "at": times.write(now), "who": entry.who, "verb": entry.verb, "object": entry.object,
                    "scope": entry.scope, "outcome": entry.outcome, "detail": act.detail, "revision": act.revision,
                },
                sort_keys=True, separators=(",", ":"), ensure_ascii=False,
            ).encode()  # fmt: skip
            await connection.execute(
                sa.insert(AUDIT).values(seq=seq, scope=entry.scope, who=entry.who, verb=entry.verb, body=body)
            )
            frontier = Frontier.decode(row.frontier).append(leaf_hash(body))
            note = Checkpoint(origin=self._signer.origin, size=frontier.size, root=frontier.root).signed(self._signer)
            await connection.execute(
                sa.update(HEAD).where(HEAD.c.id == ONLY).values(
                    revision=act.revision, hosts=act.hosts, size=frontier.size, frontier=frontier.encode(), checkpoint=note
                )
            )  # fmt: skip

    async def begin(self) -> None:
        """Make the first row of all, where there is none yet."""
        async with self.writing() as connection:
            if (await connection.execute(sa.select(HEAD.c.id))).first() is None:
                note = Checkpoint(origin=self._signer.origin, size=0, root=Frontier().root).signed(self._signer)
                await connection.execute(
                    sa.insert(HEAD).values(
                        id=ONLY, revision=0, hosts=0, size=0, frontier=Frontier().encode(), checkpoint=note
                    )
                )


class Act:
    """Something that is being done."""

    def __init__(self, connection: AsyncConnection, *, revision: int, hosts: int, detail: dict[str, Any]) -> None:
        """``revision`` and ``hosts`` are as they were; who sets them makes them otherwise."""
        self.connection = connection
        self.revision = revision
        self.hosts = hosts
        self.detail = detail
        """What the record says in the end."""


@contextlib.contextmanager
def translated():  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Tell what goes wrong in the database in our words."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise explained(error) from error
