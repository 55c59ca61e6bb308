"""Writes OCSF events to a file, a line each, and turns it over when it is large."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from serai.analysis.export.names import Names
from serai.analysis.export.ocsf import lines

_BLOCK_RECORDS = 2048
"""Records in one write: few enough that another thread gets its turn soon."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some whole lines."""

    lines: bytes
    records: int


def path_of(url: str) -> Path:
    """Read ``file:///PATH``.

    Raises:
        ValueError: that is none.
    """
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc or not path.is_absolute() or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no file: write file:///PATH, such as file:///var/log/serai/flows.jsonl")
    return path


class JsonLines:
    """A file that is appended to. When it would grow beyond its size it becomes ``NAME.1``, what was that ``NAME.2``, and so on."""

    def __init__(self, path: Path, *, most_bytes: int, files: int, version: str) -> None:
        """Touch nothing yet. ``files`` earlier ones are kept; ``version`` is this program's, for the events."""
        self._path, self._most_bytes, self._files, self._version = path, most_bytes, files, version
        self._descriptor = -1
        self._lock = threading.Lock()  # a write that is not waited for any more goes on all the same

    def prepare(self, table: pa.Table, names: Names) -> tuple[Sequence[Block], int]:
        """See ``Target``: all of them are told."""
        parts = (table.slice(at, _BLOCK_RECORDS) for at in range(0, table.num_rows, _BLOCK_RECORDS))
        return [
            Block(lines=lines(part, names, version=self._version), records=part.num_rows) for part in parts
        ], 0  # fmt: skip

    async def send(self, block: Block) -> None:
        """See ``Target``: all of the lines are written, or none."""
        await asyncio.to_thread(self._write, block.lines)

    def _write(self, raw: bytes) -> None:
        with self._lock:
            self._append(raw)

    def _append(self, raw: bytes) -> None:
        size = self._opened()
        if size and size + len(raw) > self._most_bytes:
            self._turn_over()
            size = self._opened()
        rest = memoryview(raw)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # half a line would spoil the next
                os.ftruncate(self._descriptor, size)
            raise

    def _opened(self) -> int:
        """Open the file, also when somebody else has moved it away; return its size."""
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                there = self._path.stat()
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return mine.st_size
            self._let_go()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return os.fstat(self._descriptor).st_size

    def _turn_over(self) -> None:
        self._let_go()
        for number in range(self._files, 0, -1):
            earlier = self._numbered(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                earlier.replace(self._numbered(number))
        if not self._files:
            self._path.unlink(missing_ok=True)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _close(self) -> None:
        with self._lock:
            self._let_go()

    async def away(self) -> None:
        """See ``Target``. It is opened anew the next time."""
        await self.close()

    async def close(self) -> None:
        """See ``Target``."""
        await asyncio.to_thread(self._close)
