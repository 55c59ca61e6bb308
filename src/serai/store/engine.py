"""Where SQLite and PostgreSQL differ: addresses, how a connection begins, what their errors mean. Nothing else knows which it is."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, Dialect, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from serai.store.errors import FullError, StoreError, UnavailableError, UrlError

WRITES: Final = "serai_writes"
"""The option of a connection that is going to write: SQLite must know it when a transaction begins."""

_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
_BUSY_MILLISECONDS: Final = 20_000
_DEAD_SECONDS: Final = 3
"""After so long without an answer a connection to PostgreSQL counts as dead, at both of its ends."""


def address(url: str) -> URL:
    """Read the address of a database: ``sqlite:///FILE`` or ``postgresql://...``.

    Raises:
        UrlError: it is none.
    """
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise UrlError(
            f"{url!r} is no address of a database: write sqlite:////var/lib/serai/serai.db or postgresql://..."
        ) from error
    if found.drivername not in {_SQLITE, _POSTGRESQL}:
        raise UrlError(f"{found.drivername!r} is no kind of database that is understood: sqlite or postgresql")
    if found.drivername == _SQLITE and not found.database:
        raise UrlError("sqlite: needs a file, such as sqlite:////var/lib/serai/serai.db")
    return found


def file_of(url: URL) -> Path | None:
    """Return the file of a database that is one."""
    return Path(url.database) if url.drivername == _SQLITE and url.database else None


def connect(url: URL) -> AsyncEngine:
    """Return an engine; no connection is made yet."""
    if (file := file_of(url)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    arguments = {
        "connect_timeout": 5, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": _DEAD_SECONDS,
        "tcp_user_timeout": _DEAD_SECONDS * 1000,
        "options": f"-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1 -c tcp_keepalives_count={_DEAD_SECONDS}"
        f" -c synchronous_commit=on -c timezone=UTC",
    }  # fmt: skip
    return create_async_engine(
        url.set(drivername="postgresql+psycopg"), connect_args=arguments, pool_pre_ping=True, pool_size=8,
        pool_timeout=10, isolation_level="READ COMMITTED",
    )  # fmt: skip


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ANN401 (the driver's)
    del record
    connection.isolation_level = None  # transactions are begun below, and nowhere else
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"
    ):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then would find the file changed in between.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def is_postgresql(dialect: Dialect) -> bool:
    """Say whether there are rows to lock and locks to ask for."""
    return dialect.name == _POSTGRESQL


def explained(error: SQLAlchemyError | OSError) -> StoreError:
    """Return what went wrong in a sentence."""
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return FullError("the disk of the database is full: nothing was changed; make room")
        return UnavailableError(f"the database does not answer: {error.strerror or error}")
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.Error) or type(original).__module__.startswith("aiosqlite"):
        name = getattr(original, "sqlite_errorname", "") or ""
        if name == "SQLITE_FULL" or "disk is full" in str(original):
            return FullError("the disk of the database is full: nothing was changed; make room")
        return UnavailableError(f"the database cannot be used: {original}")
    if isinstance(original, psycopg.errors.DiskFull):
        return FullError("the disk of the database is full: nothing was changed; make room")
    return UnavailableError(f"the database does not answer: {str(original or error).splitlines()[0]}")
