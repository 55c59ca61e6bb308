"""Who leads: one controller at a time, by a lock that goes when its process does."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serai.store import times
from serai.store.engine import file_of, translated
from serai.store.errors import DeposedError, StoreError, UnavailableError
from serai.store.ledger import Ledger, whole
from serai.store.records import Leader
from serai.store.schema import LEADERS

_ANSWER_SECONDS: Final = 3.0
"""A leader that the database leaves without an answer for so long must think that another leads."""


class _Lock(Protocol):
    """Held by one process at a time."""

    async def take(self) -> bool:
        """Try to; it is taken already where it is held."""

    async def held(self) -> bool:
        """Say whether it is still held."""

    async def release(self) -> None:
        """Let another take it."""


class Leadership:
    """One controller's part in who leads a shard."""

    def __init__(self, ledger: Ledger, shard: str, url: str, *, clock: Callable[[], datetime]) -> None:
        """``url``: where agents reach this controller."""
        self._ledger, self._shard, self._url, self._clock = ledger, shard, url, clock
        file = file_of(ledger.engine.url)
        self._lock: _Lock = (
            _AdvisoryLock(ledger.engine, shard) if file is None else _FileLock(Path(f"{file}.{_named(shard)}leader"))
        )
        self._term: int | None = None
        self._changing = asyncio.Lock()

    @whole
    async def attempt(self, above: int = 0) -> int | None:
        """Try to lead; return the term, higher than ``above`` and than that of any leader before, or None: another leads.

        Raises:
            StoreError: the database does not answer.
        """
        async with self._changing:
            if not await self._lock.take():
                return None
            try:
                self._term = await self._begin_term(above)
            except BaseException:
                await self._lock.release()
                raise
            return self._term

    async def _begin_term(self, above: int) -> int:
        async with self._ledger.writing() as connection:
            asked = sa.select(LEADERS.c.term).where(LEADERS.c.shard == self._shard).with_for_update()
            last = (await connection.execute(asked)).scalar_one_or_none()
            term = max(last or 0, above) + 1
            values = {"term": term, "url": self._url, "since": times.write(self._clock()), "compiled": 0}
            if last is None:
                await connection.execute(sa.insert(LEADERS).values(shard=self._shard, **values))
            else:
                await connection.execute(sa.update(LEADERS).where(LEADERS.c.shard == self._shard).values(**values))
        return term

    async def alive(self) -> bool:
        """Say whether this controller still leads. When the database does not answer, nobody can say so, and it does not."""
        if self._term is None:
            return False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if not await self._lock.held():
                    return False
                found = await leader(self._ledger, self._shard)
        except (StoreError, TimeoutError):
            return False
        return found is not None and found.term == self._term

    @whole
    async def release(self) -> None:
        """Let another lead; what was attempted before is over then, too."""
        self._term = None
        async with self._changing:
            self._term = None
            await self._lock.release()


async def leader(ledger: Ledger, shard: str) -> Leader | None:
    """Return who leads a shard, or led it last.

    Raises:
        StoreError: the database does not answer.
    """
    async with ledger.reading() as connection:
        row = (await connection.execute(sa.select(LEADERS).where(LEADERS.c.shard == shard))).first()
    return Leader(url=row.url, term=row.term, since=times.read(row.since), compiled=row.compiled) if row else None


async def require_term(connection: AsyncConnection, term: int | None) -> None:
    """Let a transaction go on whose leader is one still; None: it is made by nobody as a leader.

    Raises:
        DeposedError: another term has begun.
    """
    if term is None:
        return
    # Until this is over, nobody begins another term.
    terms = (await connection.execute(sa.select(LEADERS.c.term).with_for_update(read=True))).scalars().all()
    if (latest := max(terms, default=0)) != term:
        raise DeposedError(f"this controller led in term {term}, and it is term {latest} now: nothing was changed")


def _named(shard: str) -> str:
    return "" if shard == "all" else f"{hashlib.sha256(shard.encode()).hexdigest()[:16]}."


def advisory_key(shard: str) -> int:
    """Return the number of PostgreSQL's lock that whoever leads a shard holds."""
    return int.from_bytes(hashlib.sha256(f"serai leads {shard}".encode()).digest()[:8], "big", signed=True)


class _AdvisoryLock:
    """PostgreSQL's, held by a connection: when that ends, so does the lock."""

    def __init__(self, engine: AsyncEngine, shard: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._key = advisory_key(shard)
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        if self._connection is not None:
            return await self.held()
        with translated():
            self._connection = await self._engine.connect()
            try:
                asked = sa.select(sa.func.pg_try_advisory_lock(self._key))
                taken = bool((await self._connection.execute(asked)).scalar_one())
            except BaseException:
                await self.release()
                raise
        if not taken:
            # Nothing is held: the connection may serve others.
            connection, self._connection = self._connection, None
            await connection.close()
        return taken

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
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.close()


class _FileLock:
    """The lock of a file beside the database."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    async def take(self) -> bool:
        if self._descriptor is not None:
            return await self.held()
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"nobody can lead: {self._file}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise UnavailableError(f"nobody can lead: {self._file} cannot be locked: {error.strerror}") from error
        self._descriptor = descriptor
        return True

    async def held(self) -> bool:
        if self._descriptor is None:
            return False
        # Whoever removes the file makes way for a second leader, who locks another file of that name.
        try:
            there, ours = self._file.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    async def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
