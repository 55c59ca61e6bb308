"""Who leads: one controller at a time, by a lock that goes when its process does."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serai.store import times
from serai.store.engine import file_of, is_postgresql
from serai.store.ledger import Ledger
from serai.store.records import Leader
from serai.store.schema import LEADERS


class _Lock(Protocol):
    async def take(self) -> bool: ...
    async def held(self) -> bool: ...
    async def release(self) -> None: ...


class Leadership:
    """One controller's part in who leads a shard."""

    def __init__(self, ledger: Ledger, shard: str, url: str, *, clock: Callable[[], datetime]) -> None:
        """``url``: where agents reach this controller."""
        self._ledger, self._shard, self._url, self._clock = ledger, shard, url, clock
        engine = ledger.engine
        file = file_of(engine.url.set(drivername=engine.url.get_backend_name()))
        self._lock: _Lock = (
            _AdvisoryLock(engine, shard) if is_postgresql(engine.dialect) else _FileLock(Path(f"{file}.leader"))
        )
        self._term = 0

    async def attempt(self) -> int | None:
        """Try to lead; return the term, which no leader before has had, or None: another leads.

        Raises:
            StoreError: the database does not answer.
        """
        if not await self._lock.take():
            return None
        try:
            async with self._ledger.writing() as connection:
                asked = sa.select(LEADERS.c.term).where(LEADERS.c.shard == self._shard).with_for_update()
                last = (await connection.execute(asked)).scalar_one_or_none()
                self._term = (last or 0) + 1
                values = {"term": self._term, "url": self._url, "since": times.write(self._clock()), "compiled": 0}
                if last is None:
                    await connection.execute(sa.insert(LEADERS).values(shard=self._shard, **values))
                else:
                    await connection.execute(sa.update(LEADERS).where(LEADERS.c.shard == self._shard).values(**values))
        except BaseException:
            await self._lock.release()
            raise
        return self._term

    async def alive(self) -> bool:
        """Say whether this controller still leads; when the database does not answer, nobody can say so, and it does not."""
        return await self._lock.held()

    async def release(self) -> None:
        """Let another lead."""
        await self._lock.release()


async def leader(ledger: Ledger, shard: str) -> Leader | None:
    """Return who leads a shard, or led it last.

    Raises:
        StoreError: the database does not answer.
    """
    async with ledger.reading() as connection:
        row = (await connection.execute(sa.select(LEADERS).where(LEADERS.c.shard == shard))).first()
    return Leader(url=row.url, term=row.term, since=times.read(row.since), compiled=row.compiled) if row else None


class _AdvisoryLock:
    """PostgreSQL's, held by a connection: when that ends, so does the lock."""

    def __init__(self, engine: AsyncEngine, shard: str) -> None:
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(f"serai leads {shard}".encode()).digest()[:8], "big", signed=True)
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        if self._connection is None:
            engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._connection = await engine.connect()
        try:
            asked = sa.select(sa.func.pg_try_advisory_lock(self._key))
            return bool((await self._connection.execute(asked)).scalar_one())
        except SQLAlchemyError:
            await self.release()
            return False

    async def held(self) -> bool:
        if self._connection is None:
            return False
        try:
            await self._connection.execute(sa.select(sa.literal(1)))
        except SQLAlchemyError:
            return False
        return True

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.invalidate()  # to give it back to the pool would keep the lock
                await connection.close()


class _FileLock:
    """The lock of a file beside the database."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    async def take(self) -> bool:
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    async def held(self) -> bool:
        return self._descriptor is not None

    async def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
