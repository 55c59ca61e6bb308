from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import missing
from bench.missing import MissingError
from bench.ovn_packages import Programs
from bench.ovn_servers import Servers

SCRIPTS = {"idle": "exec sleep 60", "busy": "while :; do :; done", "broken": "echo no such schema >&2; exit 1"}


class Scripts(Programs):
    """In place of OVN's."""

    def command(self, name: str) -> list[str]:
        return ["sh", "-c", SCRIPTS[name], name]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with contextlib.closing(Servers(Scripts(root=tmp_path), tmp_path)) as found:
        yield found


def process(servers: Servers, name: str) -> int:
    return servers._processes[name].pid


def runs(number: int) -> bool:
    """Whether there is such a process; one that nobody has asked about since it ended does not run."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_cpu_time_and_memory_are_those_of_each_server(servers: Servers) -> None:
    servers.start("northd", "busy")
    servers.start("southbound", "idle")
    deadline = time.monotonic() + 30
    while servers.cpu_seconds("northd") < 0.05:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert servers.cpu_seconds("southbound") < 0.05 <= servers.cpu_seconds()
    assert servers.peak_mb("northd", "southbound") > servers.peak_mb("northd") > 0.1


def test_settled_is_who_uses_no_cpu_time(servers: Servers) -> None:
    servers.start("southbound", "idle")
    servers.settle()
    before = servers.cpu_seconds()
    time.sleep(0.05)
    assert servers.cpu_seconds() - before < 0.003


def test_a_paused_server_does_nothing_meanwhile(servers: Servers) -> None:
    servers.start("northd", "busy")
    with servers.paused("northd"):
        servers.settle()
    before, deadline = servers.cpu_seconds(), time.monotonic() + 30
    while servers.cpu_seconds() - before < 0.02:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_ends_them(servers: Servers) -> None:
    servers.start("northd", "busy")
    number = process(servers, "northd")
    assert runs(number)
    servers.close()
    assert not runs(number)


def test_they_end_with_whoever_started_them(tmp_path: Path) -> None:
    # Killed, so that nothing of it can clean up.
    script = (
        "import sys, os, pathlib; sys.path.insert(0, sys.argv[2]); import test_bench_ovn_servers as t;"
        "p = pathlib.Path(sys.argv[1]); s = t.Servers(t.Scripts(root=p), p); s.start('northd', 'idle'); s.settle();"
        "print(t.process(s, 'northd'), flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    root = Path(__file__).parents[3]
    paths = os.pathsep.join(map(str, (root / "src", root)))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}, timeout=60
    )
    assert done.returncode == -9
    deadline = time.monotonic() + 10
    while runs(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_ends_says_why(servers: Servers) -> None:
    servers.start("northd", "broken")
    servers._processes["northd"].wait()
    with pytest.raises(MissingError, match=r"OVN's northd has ended: no such schema"):
        servers.check(time.monotonic() + 60)


def test_waiting_has_an_end(servers: Servers) -> None:
    with pytest.raises(MissingError, match="not done"):
        servers.check(time.monotonic() - 1)


def test_memory_is_left_to_others(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "meminfo"
    monkeypatch.setattr(missing, "_MEMORY", memory)
    memory.write_text("MemTotal:       24683920 kB\nMemAvailable:    2000001 kB\n")
    servers.check(time.monotonic() + 60)
    memory.write_text("MemTotal:       24683920 kB\nMemAvailable:    1999999 kB\n")
    with pytest.raises(MissingError, match="memory"):
        servers.check(time.monotonic() + 60)
