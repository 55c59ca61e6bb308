"""Where SQLite and PostgreSQL differ: addresses, how transactions begin, what errors mean. Nothing else knows which it is."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from serai.store.errors import FullError, StoreError, UnavailableError, UrlError

WRITES: Final = "serai_writes"
"""The option of a connection that is going to write: a transaction that writes begins otherwise."""

_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
_BUSY_MILLISECONDS: Final = 20_000
_DEAD_SECONDS: Final = 3
"""After so long without an answer a connection to PostgreSQL counts as dead, at both of its ends."""
_STUCK_SECONDS: Final = 10
"""A transaction that writes and is left alone for so long has lost its controller: PostgreSQL ends it, as others wait for it."""
_LOCK_SECONDS: Final = 2 * _STUCK_SECONDS
"""So long a change waits for others that are being made."""
_CONNECTIONS: Final = 8
"""Of one controller; twice as many for a moment."""

_EXAMPLES: Final = "write sqlite:////var/lib/serai/serai.db or postgresql://serai@db.example/serai"


def address(url: str) -> URL:
    """Read the address of a database: ``sqlite:///FILE`` or ``postgresql://...``.

    Raises:
        UrlError: it is none. What it says does not repeat the address, as there may be a password in it.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise UrlError(f"this is no address of a database: {_EXAMPLES}") from None
    if found.drivername not in {_SQLITE, _POSTGRESQL}:
        raise UrlError(f"{found.drivername!r} is no kind of database that is understood: {_EXAMPLES}")
    if found.drivername == _SQLITE and (
        not found.database or found.host or found.query or found.database.startswith((":", "file:"))
    ):
        raise UrlError(f"an address of SQLite names a file, and nothing else: {_EXAMPLES}")
    return found


def file_of(url: URL) -> Path | None:
    """Return the file of a database that is one."""
    return Path(url.database) if url.get_backend_name() == _SQLITE and url.database else None


def connect(url: URL) -> AsyncEngine:
    """Return an engine; no connection is made yet."""
    if file_of(url) is not None:
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))
        _listen_sqlite(engine.sync_engine)
        return engine
    engine = create_async_engine(
        url.set(drivername="postgresql+psycopg"), connect_args=_arguments(), pool_pre_ping=True,
        pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS, pool_timeout=_STUCK_SECONDS, isolation_level="READ COMMITTED",
    )  # fmt: skip
    event.listen(engine.sync_engine, "begin", _begin_postgresql)
    return engine


def connect_blocking(url: URL) -> Engine:
    """Return an engine for a thread of its own. Where the database is a file, it is there from now on, and nobody else may read it.

    Raises:
        OSError: the file cannot be made.
    """
    if (file := file_of(url)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        engine = create_engine(url.set(drivername="sqlite+pysqlite"))
        _listen_sqlite(engine)
        return engine
    return create_engine(url.set(drivername="postgresql+psycopg"), connect_args=_arguments())


def reads(engine: AsyncEngine) -> AsyncEngine:
    """Return it for transactions that see the database as it is at one time, and change nothing."""
    if is_postgresql(engine.dialect):
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def writes(engine: AsyncEngine) -> AsyncEngine:
    """Return it for transactions that change something."""
    return engine.execution_options(**{WRITES: True})


def is_postgresql(dialect: Dialect) -> bool:
    """Say whether there are rows to lock and locks to ask for."""
    return dialect.name == _POSTGRESQL


def _arguments() -> dict[str, object]:
    # Controllers at both ends of a cut cable: none may go on leading, and none may be waited for, for longer than this.
    return {
        "connect_timeout": 5, "keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": _DEAD_SECONDS,
        "tcp_user_timeout": _DEAD_SECONDS * 1000, "application_name": "serai",
        "options": f"-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1 -c tcp_keepalives_count={_DEAD_SECONDS}"
        f" -c tcp_user_timeout={_DEAD_SECONDS * 1000} -c synchronous_commit=on -c timezone=UTC",
    }  # fmt: skip


def _listen_sqlite(engine: Engine) -> None:
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ANN401 (the driver's)
    del record
    connection.isolation_level = None  # transactions are begun below, and nowhere else
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON",
        "trusted_schema=OFF",
    ):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then would find the file changed in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _is_to_write(connection) else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if _is_to_write(connection):
        connection.exec_driver_sql(
            f"SET LOCAL idle_in_transaction_session_timeout = '{_STUCK_SECONDS}s';"
            f" SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"
        )


def _is_to_write(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(WRITES, False))


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Tell what goes wrong in the database in our words.

    Raises:
        StoreError: something did.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise _explained(error) from error


def _explained(error: SQLAlchemyError | OSError) -> StoreError:
    if isinstance(error, OSError):
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        why = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    else:
        original = error.orig if isinstance(error, DBAPIError) else None
        full = isinstance(original, psycopg.errors.DiskFull) or (
            isinstance(original, sqlite3.Error) and getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"
        )
        why = next(iter(str(original or error).splitlines()), type(error).__name__)
    if full:
        return FullError("the disk of the database is full, and nothing was changed: make room, then do it again")
    return UnavailableError(f"the database cannot be used: {why}")
