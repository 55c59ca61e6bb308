"""What an agent's link remembers, on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec

from serai.agent.link.events import Memory
from serai.wire.private import write_private


class MemoryFileError(RuntimeError):
    """What was remembered cannot be read; the message says what to do."""


class MemoryFile:
    """One JSON file."""

    def __init__(self, file: Path) -> None:
        """Use ``file``; nothing is read yet."""
        self._file = file

    def read(self) -> Memory:
        """Return what was remembered; nothing, where there is no file.

        Raises:
            MemoryFileError: it is damaged: with no memory a leader that is one no more would be obeyed again.
        """
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError) as error:
            raise MemoryFileError(
                f"{self._file} cannot be read ({error}): once you know which controller leads, remove it"
            ) from error

    def write(self, memory: Memory) -> None:
        """Remember.

        Raises:
            PrivateFileError: the disk refuses.
        """
        write_private(self._file, msgspec.json.encode(memory) + b"\n")

    def forget(self) -> None:
        """Remember nothing: this host belongs to another site now."""
        self._file.unlink(missing_ok=True)
