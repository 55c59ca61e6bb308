"""The last good ruleset on disk: what an agent starts from with nobody to ask."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from serai.model.ruleset import HostRuleset


class LastGood:
    """One file: the SHA-256 of what follows, a newline, and what ``HostRuleset.encode`` writes."""

    def __init__(self, file: Path) -> None:
        """Use ``file``; nothing is read yet."""
        self._file = file

    def read(self) -> HostRuleset | None:
        """Return the ruleset, or None where none was kept yet.

        Raises:
            ValueError: the file is damaged.
            OSError: it cannot be read.
        """
        try:
            digest, _, encoded = self._file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(encoded).hexdigest().encode() != digest:
            raise ValueError(f"{self._file} is damaged: its digest is another")
        return HostRuleset.decode(encoded)

    def write(self, ruleset: HostRuleset) -> None:
        """Keep ``ruleset``: all of it, or what was kept before.

        Raises:
            OSError: the disk refuses.
        """
        fresh = self._file.with_suffix(".new")
        encoded = ruleset.encode()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(hashlib.sha256(encoded).hexdigest().encode() + b"\n" + encoded)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
