"""What VMs boot from, as digests: files are read whole once, and again only when they have changed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from serai.inventory.booting import Boot
from serai.inventory.layers import LayerError, open_file, same_every_time, unreadable
from serai.wire.private import PrivateFileError, write_private

_log = structlog.get_logger(__name__)

_AT_ONCE: Final = 2
"""So many files are read at the same time."""
_CHUNK: Final = 1 << 20
_FRESH_NS: Final = 2_000_000_000
"""A file that changed so shortly before it was read is read again: it might change once more without another time of change."""
_MOST_KEPT: Final = 4096
_NICENESS: Final = 10


class Stamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is otherwise when a file is. Who is not root can set the time of writing, and not that of change."""

    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Return that of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digest of a file as it was."""

    stamp: Stamp
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """A file that a VM boots from, and its SHA-256 in hexadecimal, or why there is none."""

    what: str
    path: str
    sha256: str = ""
    why: str = ""


class _Reading:
    """A file that is being read."""

    def __init__(self) -> None:
        self.done: concurrent.futures.Future[str] = concurrent.futures.Future()
        self.bytes, self.of = 0, 0

    @property
    def percent(self) -> int:
        return 100 * self.bytes // self.of if self.of else 0


class _Look:
    """What is known so far of what one VM boots from."""

    def __init__(self) -> None:
        self.found: list[Booted | tuple[Boot, str, _Reading]] = []


class Digests:
    """Remembers the digests of files, on disk. Who asks waits in the event loop; files are read in threads."""

    def __init__(self, file: Path) -> None:
        """Keep them in ``file``; nothing is read yet."""
        self._file = file
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] | None = None
        self._readings: dict[str, _Reading] = {}
        self._turn = threading.Semaphore(_AT_ONCE)

    async def of(self, boots: Sequence[Boot], seconds: float) -> list[Booted]:
        """Return the digests of what is booted from, as far as they are known in time. What is not goes on being read."""
        look, loop = _Look(), asyncio.get_running_loop()
        done = asyncio.Event()

        def work() -> None:
            self._work(boots, look)
            with contextlib.suppress(RuntimeError):  # the agent has ended
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="digests", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), seconds)
        found = [each if isinstance(each, Booted) else _unfinished(*each) for each in list(look.found)]
        looked = {each.what for each in found}
        late = "it has not been read yet: try again in a while"
        return [*found, *(Booted(what=b.what, path=b.path, why=late) for b in boots if b.what not in looked)]

    def _work(self, boots: Sequence[Boot], look: _Look) -> None:
        for boot in boots:
            try:
                paths = [layer.path for layer in same_every_time(boot)]
            except LayerError as error:
                look.found.append(Booted(what=boot.what, path=boot.path, why=str(error)))
                continue
            for path in paths:
                reading, own = self._reading(path)
                at = len(look.found)
                look.found.append((boot, path, reading))
                if own:
                    self._read(path, reading)
                look.found[at] = _finished(boot, path, reading)

    def _reading(self, path: str) -> tuple[_Reading, bool]:
        """Return the reading of a file, and whether it is ours to do: somebody else's is waited for."""
        with self._lock:
            known = self._readings.get(path)
            if known is None:
                known = self._readings[path] = _Reading()
                return known, True
            return known, False

    def _read(self, path: str, reading: _Reading) -> None:
        try:
            digest = self._digest(path, reading)
        except Exception as error:  # noqa: BLE001  # whoever waits has to be told
            self._end(path)
            reading.done.set_exception(error)
        else:
            self._end(path)
            reading.done.set_result(digest)

    def _end(self, path: str) -> None:
        with self._lock:
            del self._readings[path]

    def _digest(self, path: str, reading: _Reading) -> str:
        """Return the digest of a file.

        Raises:
            OSError: it cannot be read.
            LayerError: it changes meanwhile.
        """
        with open_file(path) as file:
            before = Stamp.of(os.fstat(file.fileno()))
            kept = self._remembered().get(path)
            if kept is not None and kept.stamp == before:
                return kept.sha256
            began, reading.of = time.time_ns(), before.size
            with self._turn:
                with contextlib.suppress(OSError):  # a unit may forbid it
                    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
                told, chunk = hashlib.sha256(), bytearray(_CHUNK)
                while length := file.readinto(chunk):
                    told.update(memoryview(chunk)[:length])
                    reading.bytes += length
            if Stamp.of(os.fstat(file.fileno())) != before:
                raise LayerError("it has changed while it was read")
        digest = told.hexdigest()
        if began - max(before.written_ns, before.changed_ns) > _FRESH_NS:
            self._remember(path, Kept(before, digest))
        return digest

    def _remembered(self) -> dict[str, Kept]:
        with self._lock:
            if self._kept is None:
                try:
                    self._kept = msgspec.json.decode(self._file.read_bytes(), type=dict[str, Kept])
                except FileNotFoundError:
                    self._kept = {}
                except (OSError, ValueError) as error:
                    _log.warning("digests of files are not known any more", file=str(self._file), error=str(error))
                    self._kept = {}
            return self._kept

    def _remember(self, path: str, kept: Kept) -> None:
        known = self._remembered()
        with self._lock:
            known.pop(path, None)
            known[path] = kept
            while len(known) > _MOST_KEPT:
                del known[next(iter(known))]
            try:
                write_private(self._file, msgspec.json.encode(known) + b"\n")
            except PrivateFileError as error:
                _log.warning("digests of files cannot be kept", error=str(error))


def _finished(boot: Boot, path: str, reading: _Reading) -> Booted:
    """Wait for a file to be read."""
    try:
        return Booted(what=boot.what, path=path, sha256=reading.done.result())
    except OSError as error:
        return Booted(what=boot.what, path=path, why=f"it {unreadable(error)}")
    except LayerError as error:
        return Booted(what=boot.what, path=path, why=str(error))


def _unfinished(boot: Boot, path: str, reading: _Reading) -> Booted:
    if reading.of == 0:
        return Booted(what=boot.what, path=path, why="its storage does not answer")
    return Booted(
        what=boot.what,
        path=path,
        why=f"it is being read for the first time ({reading.percent} %): try again in a while",
    )
