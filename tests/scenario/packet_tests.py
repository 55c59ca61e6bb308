"""Collects the packet tests, or runs some of them on a machine made for that.

packet_tests.py needs FILE        collects them only; writes which they are, and the files that this took
packet_tests.py run FILE SHARES   runs those of this machine (MACHINE: 0, 1 ...); says what became of each, a line each
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

import pytest

# What is about this machine or its compiler, what sends thousands of packets for the sake of numbers, and what needs more
# of the agent's libraries than that machine has room for.
LEFT_OUT = ("layout", "bench_gate", "fuzz", "tcp_streams", "flow_truth", "meter")
SELECTION = (
    "tests/packet",
    *(f"--ignore=tests/packet/test_{name}.py" for name in LEFT_OUT),
    # Hundreds of examples each.
    *("-m", "not hypothesis"),
    *("-q", "-s", "--color=no", "--tb=short", "-p", "no:cacheprovider"),
)
# Where the gate cannot be loaded, nothing works: a few of these say enough.
MOST_FAILURES = 20


class Chosen:
    """Knows all tests that were found, and lets some of them run."""

    def __init__(self, wanted: Collection[str] = ()) -> None:
        self.found: list[str] = []
        self._wanted = wanted

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.found = [item.nodeid for item in items]
        items[:] = [item for item in items if item.nodeid in self._wanted]


class Reporter:
    """Says what became of each test."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, **what: str | float) -> None:
        self._out.write(f"{json.dumps(what)}\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.say(
                test=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 3), text=report.longreprtext
            )


def loaded_files() -> set[str]:
    """Files that this process has loaded: modules and shared objects."""
    modules = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    mapped = {line[line.index("/") :] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return modules | mapped


def needs(file: Path) -> int:
    collection = Chosen()
    status = pytest.main([*SELECTION, "--collect-only"], plugins=[collection])
    from serai.datapath.libbpf import lib  # noqa: PLC0415  # what pytest imports, it must import first

    assert lib.bpf_object__load, "to ask for a function opens the library"
    file.write_text(json.dumps({"tests": collection.found, "files": sorted(loaded_files())}))
    return 0 if status is pytest.ExitCode.NO_TESTS_COLLECTED else int(status)


def run(file: Path, shares: Path) -> int:
    mine = frozenset(json.loads(shares.read_text())[int(os.environ["MACHINE"])])
    with file.open("w", buffering=1) as out:  # a line at a time: what comes after it may be the end
        reporter = Reporter(out)
        status = pytest.main([*SELECTION, f"--maxfail={MOST_FAILURES}"], plugins=[Chosen(mine), reporter])
        reporter.say(status=int(status), release=platform.release())
    return int(status)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["needs", name]:
            sys.exit(needs(Path(name)))
        case ["run", name, listing]:
            sys.exit(run(Path(name), Path(listing)))
        case _:
            sys.exit(__doc__)
