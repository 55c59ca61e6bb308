"""What this process takes of a host's memory, which is its VMs': glibc is told to keep little back. Others than glibc are left alone."""

from __future__ import annotations

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 256 << 10


def keep_small() -> None:
    """Have large arrays go back to the system when they are let go, from now on.

    glibc begins like that, and then takes the size of the largest that was ever let go for usual: what one interval needs it would
    keep, in pieces that the next does not fit into.
    """
    if (change := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        change(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Let the system have what small things have taken, and do not need any more."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
