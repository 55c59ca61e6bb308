"""Threads that ask the engine: each has a session of its own, because one that several threads share mixes up their parameters.

Readers are read-only for good: they cannot write, leave the database (``file()``, ``url()``) or change a setting, whatever the SQL says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from chdb import session as chdb

_WRITER: Final = ("CREATE DATABASE IF NOT EXISTS serai", "USE serai")
_READER: Final = (
    "USE serai",
    "SET max_execution_time = 30",
    "SET max_memory_usage = 2000000000",
    "SET max_bytes_before_external_group_by = 1000000000",
    "SET max_result_rows = 2000000",
    "SET output_format_arrow_string_as_string = 1",
    "SET output_format_arrow_low_cardinality_as_dictionary = 0",
    "SET output_format_arrow_compression_method = 'none'",
    "SET readonly = 1",
)

T = TypeVar("T")

Session = Any
"""``chdb.session.Session``, which says nothing of its types."""
_begin: Final[Any] = chdb.Session


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inserted:
    """What an insert did."""

    rows: int
    bytes: int


class Sessions:
    """One writer and some readers of one database, which no other process may have open."""

    def __init__(self, path: Path, *, readers: int) -> None:
        """Open nothing yet."""
        self._path = path
        self._local = threading.local()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer", initializer=self._open, initargs=(_WRITER,))
        self._readers = ThreadPoolExecutor(
            readers, thread_name_prefix="reader", initializer=self._open, initargs=(_READER,)
        )

    def _open(self, settings: tuple[str, ...]) -> None:
        session = _begin(str(self._path))
        self._local.session = session
        for each in settings:
            session.query(each)

    async def read(self, sql: str, shape: str, parameters: Mapping[str, str]) -> bytes:
        """Answer a question as a reader, in the engine's format ``shape``.

        Raises:
            RuntimeError: the engine says no; the message has its code.
        """
        return await self._do(self._readers, lambda session: _query(session, sql, shape, parameters))

    async def write(self, sql: str, shape: str, parameters: Mapping[str, str]) -> bytes:
        """Do something as the writer: change tables, or ask.

        Raises:
            RuntimeError: as for ``read``.
        """
        return await self._do(self._writer, lambda session: _query(session, sql, shape, parameters))

    async def insert(self, statement: str, shape: str, body: bytes) -> Inserted:
        """Insert rows that come in the format ``shape``.

        Raises:
            RuntimeError: as for ``read``; nothing of it can be seen then, or it is whole when it is tried again with its token.
        """

        def insert(session: Session) -> Inserted:
            with session.send_insert(statement, shape) as stream:
                stream.append(body)
                done = stream.finish()
            return Inserted(rows=done.rows_written, bytes=done.bytes_written)

        return await self._do(self._writer, insert)

    async def _do(self, pool: ThreadPoolExecutor, job: Callable[[Session], T]) -> T:
        def turn() -> T:
            session: Session = self._local.session
            try:
                return job(session)
            except RuntimeError:
                # What a statement that failed had to say so far would stand before the next one's answer.
                session.query("SELECT 1", "CSV")
                raise

        return await asyncio.get_running_loop().run_in_executor(pool, turn)

    def close(self) -> None:
        """Wait until all that runs is done: a process that ends while a query runs crashes."""
        for pool in (self._readers, self._writer):
            pool.shutdown(wait=True, cancel_futures=True)


def _query(session: Session, sql: str, shape: str, parameters: Mapping[str, str]) -> bytes:
    answer: Any = session.query(sql, shape, params=dict(parameters)) if parameters else session.query(sql, shape)
    return answer.bytes() if hasattr(answer, "bytes") else b""
