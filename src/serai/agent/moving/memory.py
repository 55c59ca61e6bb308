"""What an agent remembers of its moves, on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec

from serai.agent.moving.moves import Memory
from serai.wire.private import write_private


class MovesFile:
    """One JSON file."""

    def __init__(self, file: Path) -> None:
        """Use ``file``; nothing is read yet."""
        self._file = file

    def read(self) -> Memory:
        """Return what was remembered; nothing, where there is no file.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Memory)
        except FileNotFoundError:
            return Memory()

    def write(self, memory: Memory) -> None:
        """Remember.

        Raises:
            PrivateFileError: the disk refuses.
        """
        write_private(self._file, msgspec.json.encode(memory) + b"\n")
