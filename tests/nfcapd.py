"""nfcapd, a collector of flows that many run, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_START_SECONDS = 20


class Collected:
    """What one collector has kept; it can be read when the collector has ended."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._flows, self._log = directory / "flows", directory / "log"
        self._flows.mkdir(parents=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Collect; the process goes when this one does, however that ends."""
        command = ["nfcapd", "-w", str(self._flows), "-p", str(self.port), "-b", "127.0.0.1", "-B", "4000000"]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                self._wait(process)
                yield
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_SECONDS
        while "Startup" not in self.log:
            assert process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def flows(self) -> list[dict[str, Any]]:
        """What nfdump reads from what it kept."""
        command = ["nfdump", "-R", str(self._flows), "-o", "json"]
        read = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"TZ": "UTC"})
        found: list[dict[str, Any]] = json.loads(read.stdout)
        return found


def free_port(kind: socket.SocketKind) -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
