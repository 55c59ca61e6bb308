"""One agent a host."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class AgentBusyError(RuntimeError):
    """Another agent guards this host."""


class AgentLock:
    """Held, on the directory of the pins, by the one agent that may use them; it goes with the agent, however."""

    def __init__(self, pins: Path) -> None:
        """Describe the lock on the directory ``pins``; it is taken by ``with``."""
        self._pins = pins
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            AgentBusyError: another agent holds it.
        """
        self._pins.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._pins, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise AgentBusyError(f"another agent guards this host already (it holds {self._pins})") from None
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        os.close(self._descriptor)
