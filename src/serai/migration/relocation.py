"""Moves that one plan made, carried out together: where that stands, and which move is which."""

from __future__ import annotations

import enum
import hashlib

from serai.migration.execution import Key


class Standing(enum.StrEnum):
    """Where a relocation stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """A move ended badly. What was not begun yet needs another plan, from where VMs are now."""
    STOPPED = "stopped"
    """Somebody wanted it so; the same."""


def move_id(relocation: str, key: Key) -> str:
    """Return the id of a move of a relocation: whoever asks twice for one, or leads anew, means the same move."""
    number, vm = key
    return hashlib.sha256(f"{relocation} {number} {vm}".encode()).hexdigest()[:32]
