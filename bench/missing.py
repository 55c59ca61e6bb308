"""What keeps a benchmark from being run on this machine, and the memory that it must leave to others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

RESERVE_GB: Final = 2.0

_MEMORY: Final = Path("/proc/meminfo")


class MissingError(Exception):
    """Something cannot be measured here; the text says what is missing."""


def check_memory() -> None:
    """Raise MissingError once less than ``RESERVE_GB`` is available: better no figure than neighbours that die."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMORY.read_text(), re.MULTILINE)
    if found and int(found[1]) < RESERVE_GB * 1_000_000:
        raise MissingError(
            f"less than {RESERVE_GB:g} GB of memory was left: stop what else runs, or take a larger machine"
        )
