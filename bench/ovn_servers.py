"""OVN's servers as processes of their own, with all their files in one directory, and what they use."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.missing import MissingError, check_memory
from bench.ovn_packages import Programs
from bench.ovsdb import Database

_PATIENCE_SECONDS: Final = 1200
_WINDOW_SECONDS: Final = 0.3
_IDLE_SECONDS: Final = 0.003
"""Of CPU time within a window: less is nothing."""

_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED of a whole process: to the nanosecond, with threads that have ended."""

_QUIET: Final = ("--no-chdir", "-vconsole:warn", "-vsyslog:off", "-vfile:off")


class Servers:
    """The servers that were started; they end with this process, however it ends."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        """Start none yet; ``directory`` is theirs."""
        self._programs = programs
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        """End them all; nobody will miss what they have stored."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def start(self, name: str, program: str, *arguments: str) -> None:
        """Start ``program``; what it complains of goes into a file."""
        places = {
            f"{owner}_{kind}DIR": str(self._directory)
            for owner in ("OVS", "OVN")
            for kind in ("RUN", "DB", "LOG", "SYSCONF")
        }
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self._programs.command(program), *_QUIET, *arguments]
        with self._complaints(name).open("wb") as complaints:
            self._processes[name] = subprocess.Popen(
                command, env=os.environ | places, stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints
            )

    def serve(self, database: Path, name: str) -> Database:
        """Start a server of a database's file, and return once it has loaded it."""
        path = self.socket(name)
        self.start(name, "ovsdb-server", f"--remote=punix:{path}", str(database))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return Database.connect(path, f"OVN_{name.title()}")
            except (FileNotFoundError, ConnectionRefusedError):
                self.check(deadline)
            time.sleep(0.02)

    def socket(self, name: str) -> Path:
        """Where a server of a database listens."""
        return self._directory / f"{name}.sock"

    def wait(self, database: Database, column: str, least: int) -> None:
        """Return once the northbound database, whose ``column`` is watched, says ``least`` or more there."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                changes = database.update(seconds=1).get("NB_Global", {}).values()
            except TimeoutError:
                self.check(deadline)
                continue
            if any(change.get("new", {}).get(column, -1) >= least for change in changes):
                return

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Let a server find all that the body does at once."""
        self._processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[name].send_signal(signal.SIGCONT)

    def settle(self) -> None:
        """Wait until none of them has work left."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        before = self.cpu_seconds()
        while True:
            time.sleep(_WINDOW_SECONDS)
            now = self.cpu_seconds()
            if now - before < _IDLE_SECONDS:
                return
            before = now
            self.check(deadline)

    def check(self, deadline: float) -> None:
        """Raise what speaks against waiting on."""
        check_memory()
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise MissingError(f"OVN's {name} has ended: {self._complaints(name).read_text().strip()[-300:]}")
        if time.monotonic() > deadline:
            raise MissingError(f"OVN was not done after {_PATIENCE_SECONDS} s")

    def cpu_seconds(self, *names: str) -> float:
        """CPU time that these have used so far; without ``names``: all of them."""
        return sum(
            time.clock_gettime(~self._processes[name].pid << 3 | _CPU_CLOCK) for name in names or self._processes
        )

    def peak_mb(self, *names: str) -> float:
        """MiB of memory that these held at the most, each at its own time."""
        return sum(_peak_kb(self._processes[name].pid) for name in names) / 1024

    def _complaints(self, name: str) -> Path:
        return self._directory / f"{name}.err"


def _peak_kb(process: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
