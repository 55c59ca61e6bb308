"""Processes of the lab, told apart from strangers that got the same number later."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STATE_FIELD = 0
_PARENT_FIELD = 1
_START_FIELD = 19
_POLL_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRecord:
    """One process, identified so that a recycled pid is never mistaken for it."""

    name: str
    pid: int
    """As seen from outside the host's process namespace."""
    start_ticks: int
    """Kernel start time in clock ticks since boot; 0 never matches a process."""

    @classmethod
    def of(cls, name: str, pid: int) -> "ProcessRecord":
        """Describe the process that has this pid now."""
        fields = _stat(pid)
        return cls(name=name, pid=pid, start_ticks=int(fields[_START_FIELD]) if fields else 0)

    def alive(self) -> bool:
        """Say whether this very process still runs (a zombie does not)."""
        fields = _stat(self.pid)
        return bool(fields) and fields[_STATE_FIELD] != "Z" and int(fields[_START_FIELD]) == self.start_ticks

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def children(pid: int) -> tuple[int, ...]:
    """Pids of the direct children of a process."""
    return tuple(each for each in _all() if (fields := _stat(each)) and int(fields[_PARENT_FIELD]) == pid)


def in_network_namespace(inodes: Iterable[int]) -> tuple[int, ...]:
    """Pids of the processes whose network namespace has one of these inode numbers."""
    wanted = set(inodes)
    return tuple(each for each in _all() if _inode(each, "net") in wanted)


def outside_pid(inner: int, *, init: int) -> int | None:
    """Translate a pid inside the process namespace of init (an outside pid) to the outside."""
    namespace = _inode(init, "pid")
    for each in _all():
        if _inode(each, "pid") == namespace and _innermost_pid(each) == inner:
            return each
    return None


def kill_all(pids: Iterable[int]) -> None:
    """Send SIGKILL to all of them; those already gone are skipped."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until_gone(records: Iterable[ProcessRecord], *, timeout_seconds: float) -> bool:
    """Wait until none of these processes runs, collecting those that are our children; False on timeout."""
    deadline = time.monotonic() + timeout_seconds
    left = list(records)
    while left:
        for record in left:
            with suppress(ChildProcessError):
                os.waitpid(record.pid, os.WNOHANG)
        left = [record for record in left if record.alive()]
        if left and time.monotonic() > deadline:
            return False
        if left:
            time.sleep(_POLL_SECONDS)
    return True


def _all() -> tuple[int, ...]:
    return tuple(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command name (which may hold spaces); empty when there is none."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _inode(pid: int, kind: str) -> int | None:
    try:
        return (_PROC / str(pid) / "ns" / kind).stat().st_ino
    except OSError:
        return None


def _innermost_pid(pid: int) -> int | None:
    try:
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except OSError:
        pass
    return None
