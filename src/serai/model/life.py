"""How a domain is, as far as a move is concerned."""

from __future__ import annotations

import enum


class Life(enum.Enum):
    """What a hypervisor says of one of its domains."""

    RUNS = enum.auto()
    """Its guest runs here."""
    HELD = enum.auto()
    """It is here, and its guest is stopped, for it is being moved: away for good, or here and not begun yet."""
    MOVED = enum.auto()
    """It is here no more: its guest has been moved away."""
    GONE = enum.auto()
    """It is here no more, for whatever other reason."""
