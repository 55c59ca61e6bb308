"""The gate on the kernel of Debian 12 (6.1), which has no tcx: the packet tests run there, on emulated processors.

These take ten times as long: of each table every twelfth case is run, or all with OLD_KERNEL=all in the environment.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from emulated import REPORT_PORT, Files, Said, boot, build

from serai.lab.command import run_command
from serai.lab.error import LabError
from serai.lab.kernel import Kernel, newest_kernel

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(900)]

SERIES = "6.1"
CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("packet_tests.py")
MODULES = ("tun", "veth", "bridge", "sch_ingress", "cls_bpf")
COMMANDS = ("ip", "tc", "bridge", "bpftool")
TIMEOUT_SECONDS = 600
EVERY = 1 if os.environ.get("OLD_KERNEL") == "all" else 12
# Each sends thousands of packets, or must be faster than a clock.
TOO_LONG = {
    "test_a_flood_of_denied_packets",
    "test_a_full_ring_costs_samples_only",
    "test_many_resets_by_guess",
    "test_more_datagrams_than_are_remembered_harm_none_but_their_own_tails",
}
# Of the standard library and of packages: what no packet test looks at.
UNUSED = {
    "__pycache__",
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "ensurepip",
    "tkinter",
    "turtledemo",
    f"config-{sys.version_info.major}.{sys.version_info.minor}-{sysconfig.get_config_var('MULTIARCH')}",
}
ATTACH = "tests/packet/test_attach.py::"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What became of the packet tests over there."""

    release: str
    console: str
    chosen: list[str]
    """The tests that were to be run."""
    ended: list[int]
    """Exit status of each process over there that came to its end."""
    outcomes: Mapping[str, Mapping[str, str]]
    """By test: ``outcome``, ``text`` (why), and how many ``seconds`` it took."""


def old_kernel() -> Kernel:
    try:
        return newest_kernel(series=SERIES)
    except LabError as error:
        pytest.skip(str(error))


def files_needed(work: Path, bytecode: Path) -> tuple[Files, list[str]]:
    """The files with which the packet tests run elsewhere, and the tests."""
    listing = work / "needs.json"
    # The processors over there are slow: they get the byte code ready-made.
    setting = ["-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={bytecode}"]
    run_command(["env", *setting, sys.executable, PROGRAM, "needs", listing], cwd=CHECKOUT)
    needed = json.loads(listing.read_text())
    loaded = [path for name in needed["files"] if (path := Path(name)).is_file()]

    files = Files()
    for path in loaded:
        files.add(path)
    files.add_binaries([Path(sys.executable), *(path for path in loaded if ".so" in path.suffixes)])
    files.add_binaries([Path(found) for name in COMMANDS if (found := shutil.which(name))])
    settings = (Path("/etc/ld.so.cache"), Path(sys.prefix, "pyvenv.cfg"), CHECKOUT / "pyproject.toml")
    for path in (*filter(Path.exists, settings), PROGRAM):
        files.add(path)
    # Whole packages, as they may load more of themselves later, and what they know of themselves.
    site = Path(sysconfig.get_path("purelib"))
    packages = {site / path.relative_to(site).parts[0] for path in loaded if path.is_relative_to(site)}
    trees = (*filter(Path.is_dir, packages), *site.glob("*.dist-info"), CHECKOUT / "src")
    trees += (CHECKOUT / "tests" / "packet", CHECKOUT / "tests" / "golden")
    for tree in (Path(sysconfig.get_path("stdlib")), *trees):
        files.add_tree(tree, without=UNUSED)
    files.add_tree(bytecode)
    return files, needed["tests"]


def choose(tests: Iterable[str]) -> list[str]:
    """Of the cases of each test the first, and then every ``EVERY``-th."""
    chosen: list[str] = []
    cases: Counter[str] = Counter()
    for test in tests:
        function = test.partition("[")[0]
        if function.rpartition("::")[2] not in TOO_LONG and cases[function] % EVERY == 0:
            chosen.append(test)
        cases[function] += 1
    return chosen


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    kernel = old_kernel()
    work = tmp_path_factory.mktemp("old-kernel")
    files, tests = files_needed(work, work / "bytecode")
    chosen = choose(tests)
    # One processor each: QEMU's processors wait for each other a lot.
    machines = min(4, len(os.sched_getaffinity(0)))
    shares = work / "shares.json"
    shares.write_text(json.dumps([chosen[machine::machines] for machine in range(machines)]))
    files.add(shares)
    image = build(
        work,
        kernel,
        files,
        [sys.executable, str(PROGRAM), "run", REPORT_PORT, str(shares)],
        modules=MODULES,
        environment={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(CHECKOUT / "src"),
            "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
            "PYTHONUTF8": "1",
        },
        directory_there=CHECKOUT,
    )

    def one(machine: int) -> Said:
        return boot(image, work / str(machine), variables={"MACHINE": str(machine)}, timeout_seconds=TIMEOUT_SECONDS)

    try:
        with concurrent.futures.ThreadPoolExecutor() as threads:
            said = list(threads.map(one, range(machines)))
    finally:  # 200 MB, which pytest would keep for days
        image.kernel.unlink()
        image.initramfs.unlink()
    return read(chosen, said)


def read(chosen: list[str], machines: list[Said]) -> Ran:
    # Without what a machine that died may have begun to say.
    lines = [json.loads(line) for said in machines for line in said.report.rpartition("\n")[0].splitlines()]
    ends = [line for line in lines if "status" in line]
    console = "\n".join(said.console for said in machines)
    assert len(ends) == len(machines), f"not every machine came to its end:\n{console}"
    return Ran(
        release=ends[0]["release"],
        console=console,
        chosen=chosen,
        ended=[line["status"] for line in ends],
        outcomes={line["test"]: line for line in lines if "test" in line},
    )


def test_it_is_the_old_kernel(ran: Ran) -> None:
    assert ran.release.startswith(f"{SERIES}.")


def test_the_packet_tests_hold(ran: Ran) -> None:
    failed = {test: line["text"] for test, line in ran.outcomes.items() if line["outcome"] == "failed"}
    assert not failed, "\n\n".join(f"{test}\n{text}" for test, text in failed.items())
    assert set(ran.ended) == {0}, ran.console
    assert sorted(ran.outcomes) == sorted(ran.chosen)
    skipped = [test for test, line in ran.outcomes.items() if line["outcome"] == "skipped"]
    assert len(skipped) < len(ran.chosen) // 5, f"hardly anything was tried: {skipped}"


@pytest.mark.parametrize(
    "test",
    [
        "test_the_kernel_says_which_way_to_attach",
        "test_a_gate_is_closed_until_it_is_bound[tcx]",
        "test_forged_sources_do_not_leave_the_tap[tcx]",
        "test_replacing_programs_under_a_flood_leaks_nothing[tcx]",
        "test_the_gate_outlives_a_killed_agent",
    ],
)
def test_a_real_tap_is_guarded(ran: Ran, test: str) -> None:
    """None of these may be renamed or skipped unseen. Where it says tcx, the gate's loader found out that there is none."""
    became = ran.outcomes[f"{ATTACH}{test}"]
    assert became["outcome"] == "passed", became["text"]


def test_the_kernel_has_nothing_to_complain_about(ran: Ran) -> None:
    for complaint in ("BUG:", "WARNING:", "Oops", "Call Trace", "cannot load"):
        assert complaint not in ran.console
