"""Machine definitions that were right on this host, so that people can be told in what another one differs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from serai.inventory.definition import canonical, digest
from serai.inventory.difference import differences
from serai.wire.private import PrivateFileError, write_private

_log = structlog.get_logger(__name__)

_MOST: Final = 1024


class Definitions:
    """A file for each, called as its digest."""

    def __init__(self, directory: Path) -> None:
        """Keep them there; nothing is read yet."""
        self._directory = directory

    def remember(self, definition: str) -> None:
        """Keep a machine definition; what has not been looked at for longest goes when there are too many."""
        lines = canonical(definition)
        file = self._directory / digest(lines)
        if file.exists():
            return
        try:
            write_private(file, "\n".join(lines).encode())
            kept = sorted((each.stat().st_mtime_ns, each) for each in self._directory.iterdir())
            for _, old in kept[:-_MOST]:
                old.unlink(missing_ok=True)
        except (OSError, PrivateFileError) as error:  # it is for convenience only
            _log.warning("a machine definition cannot be kept", error=str(error))

    def explain(self, wanted: str, definition: str) -> str:
        """Say in what a machine definition differs from the one of the digest ``wanted``; empty: this host does not know that one."""
        try:
            known = (self._directory / wanted).read_text().split("\n")
        except (OSError, ValueError):
            return ""
        return differences(known, canonical(definition)) if digest(known) == wanted else ""
