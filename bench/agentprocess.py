"""A real agent in a process of its own, and what it costs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.topology import BPFFS
from serai.wire import local

PINS: Final = BPFFS / "serai"
NOWHERE: Final = "wss://127.0.0.1:9"
"""Where no controller is: an agent that is told of one records traffic, and keeps it."""

_PATIENCE_SECONDS: Final = 60
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # behind the name, in /proc/PID/stat

_PROGRAM: Final = """
import sys
from pathlib import Path
from serai.agent.config import Config, Limits
from serai.agent.main import main
host, state, pins, *agents = sys.argv[1:]
main(Config(host=host, socket=Path(state, "agent.sock"), state=Path(state), bpffs=Path(pins),
            libvirt=f"qemu+unix:///system?socket={state}/nobody", limits=Limits(agents=agents)))
"""


class AgentProcessError(RuntimeError):
    """The agent did not do what it promises."""


class AgentProcess:
    """A running agent."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        """Watch ``process``, which has its files in ``state``; ``running`` starts one."""
        self._process = process
        self._state = state

    @property
    def records(self) -> Path:
        """Where it keeps what it has to tell."""
        return self._state / "records"

    def status(self) -> local.StatusReply:
        """Ask it how it is.

        Raises:
            AgentError: it does not answer.
        """
        return local.ask(self._state / "agent.sock", local.Status(), local.StatusReply)

    def wait(self, gates: int) -> None:
        """Wait until so many gates guard somebody.

        Raises:
            AgentProcessError: they never do.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(local.AgentError):
                if sum(gate.vnic is not None for gate in self.status().gates) == gates:
                    return
            time.sleep(0.1)
        said = (self._state / "log").read_text().splitlines()[-20:]
        raise AgentProcessError("\n".join(["the agent does not guard all taps; it said:", *said]))

    def cpu_seconds(self) -> float:
        """How long it has used a processor, the kernel's work for it included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS

    def peak_mb(self) -> float:
        """The most memory that it has had at any time, in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def running(host: str, state: Path) -> Iterator[AgentProcess]:
    """Run an agent of ``host``, whose ruleset ``state`` may hold; kill it in the end."""
    # Whatever becomes of this process, the agent shall not stay.
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _PROGRAM, host, str(state), str(PINS), NOWHERE]
    with (
        (state / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env={**os.environ, "NO_COLOR": "1"}) as process,
    ):
        try:
            yield AgentProcess(process, state)
        finally:
            process.kill()
