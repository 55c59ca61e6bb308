"""What has been taken from agents and is not in the engine yet: on disk, so that an agent may be told that it is kept.

An entry is a directory with one Arrow file a table. It is forced to disk before anybody is told of it, and removed when the engine has
all of it; one that was cut short is inserted once more with the same tokens, which the engine remembers: nothing is lost, nothing twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import ipc

ORDER: Final = ("endpoints", "vnics", "rules", "flows", "drops", "sightings", "batches")
"""Names come before what they name; that a batch is there is said last."""
_PART: Final = ".part"


class JournalError(RuntimeError):
    """The journal cannot be written or read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Rows for several tables, all of them or none."""

    path: Path
    rows: Mapping[str, pa.Table] | None = dataclasses.field(default=None, compare=False, repr=False)
    """What was written there, where it is in memory still: it need not be read."""

    @property
    def token(self) -> str:
        """Names it for ever: there is no other of this name anywhere."""
        return self.path.name

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Return them, in the order in which they go in.

        Raises:
            JournalError: it is damaged.
        """
        if self.rows is not None:
            yield from ((name, self.rows[name]) for name in ORDER if name in self.rows)
            return
        for name in ORDER:
            file = self.path / name
            if not file.exists():
                continue
            try:
                with pa.OSFile(str(file)) as source, ipc.open_stream(source) as stream:
                    yield name, stream.read_all()
            except (OSError, pa.ArrowInvalid) as error:
                raise JournalError(f"{file} is damaged: {error}") from error


class Journal:
    """Entries in the order in which they came. Not for several threads at a time."""

    def __init__(self, directory: Path, *, most_bytes: int) -> None:
        """Touch nothing yet. Beyond ``most_bytes`` no entry is taken."""
        self._directory = directory
        self._most_bytes = most_bytes
        self._number = 0
        self._sizes: dict[str, int] = {}

    @property
    def bytes(self) -> int:
        """What waits."""
        return sum(self._sizes.values())

    @property
    def full(self) -> bool:
        """There is no room for more."""
        return self.bytes >= self._most_bytes

    def open(self) -> list[Entry]:
        """Return what an earlier process has left; what it could not finish, and told nobody of, is removed.

        Raises:
            JournalError: the directory cannot be used.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sizes.clear()
            entries = []
            for path in sorted(self._directory.iterdir()):
                if path.name.endswith(_PART):
                    shutil.rmtree(path)
                elif path.is_dir():
                    self._number = max(self._number, int(path.name.partition("-")[0]))
                    self._sizes[path.name] = sum(file.stat().st_size for file in path.iterdir())
                    entries.append(Entry(path=path))
        except (OSError, ValueError) as error:
            raise JournalError(f"{self._directory} cannot be used: {error}") from error
        return entries

    def append(self, tables: Mapping[str, pa.Table]) -> Entry:
        """Keep rows for good; when this returns they survive a crash of the machine.

        Raises:
            JournalError: they cannot be kept; nothing of them is.
        """
        self._number += 1
        # The engine remembers tokens for longer than this counter does, and others may feed it too.
        path = self._directory / f"{self._number:016d}-{secrets.token_hex(8)}"
        fresh = path.with_name(path.name + _PART)
        try:
            fresh.mkdir()
            size = 0
            for name, table in tables.items():
                with (fresh / name).open("xb") as file:
                    with ipc.new_stream(file, table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as stream:
                        stream.write_table(table)
                    file.flush()
                    os.fsync(file.fileno())
                    size += file.tell()
            _sync(fresh)
            fresh.rename(path)
            _sync(self._directory)
        except (OSError, pa.ArrowInvalid) as error:
            with contextlib.suppress(OSError):
                shutil.rmtree(fresh)
            raise JournalError(f"{path} cannot be written: {error}") from error
        self._sizes[path.name] = size
        return Entry(path=path)

    def remove(self, entry: Entry) -> None:
        """Forget an entry that the engine has.

        Raises:
            JournalError: it cannot be removed.
        """
        gone = entry.path.with_name(entry.path.name + _PART)
        try:
            entry.path.rename(gone)
            shutil.rmtree(gone)
        except OSError as error:
            raise JournalError(f"{entry.path} cannot be removed: {error}") from error
        self._sizes.pop(entry.path.name, None)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
