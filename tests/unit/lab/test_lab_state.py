"""The lab's records survive a crash and never name a stranger's process."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.lab.error import LabError
from serai.lab.process import ProcessRecord, wait_until_gone
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from unit.lab.lab_plans import guest, plan


@pytest.fixture
def state() -> Iterator[LabState]:
    with tempfile.TemporaryDirectory() as short:  # the kernel takes no long paths of sockets
        yield LabState(Path(short) / "s")


def test_plan_comes_back_as_it_was(state: LabState) -> None:
    made = plan(guest("acme-web"), guest("globex-web", host="b"))
    with state.lock():
        state.begin(made)
    assert LabState(state.directory).plan() == made


def test_second_lab_is_refused(state: LabState) -> None:
    with state.lock():
        state.begin(plan())
        with pytest.raises(LabError, match="take it down first"):
            state.begin(plan())


def test_two_commands_at_once_are_refused(state: LabState) -> None:
    with state.lock(), pytest.raises(LabError, match="another lab command"), LabState(state.directory).lock():
        pass


def test_lock_is_free_after_use_and_after_removal(state: LabState) -> None:
    with state.lock():
        state.remove()
    with state.lock():
        assert state.directory.exists()


def test_too_long_directory_is_refused(tmp_path: Path) -> None:
    state = LabState(tmp_path / ("x" * 90))
    with state.lock(), pytest.raises(LabError, match="choose a shorter one"):
        state.begin(plan())


def test_records_of_namespaces_and_processes(state: LabState) -> None:
    with state.lock():
        state.begin(plan())
    state.record_namespace("serai-a")
    record = state.record_process("a.init", os.getpid())
    again = LabState(state.directory)
    assert again.namespaces() == ("serai-a",)
    assert again.process("a.init") == record
    assert again.process("b.init") is None


def test_half_written_record_is_no_record(state: LabState) -> None:
    with state.lock():
        state.begin(plan())
    (state.directory / "processes" / "a.init.json.new").write_bytes(b'{"name":')
    (state.directory / "processes" / "b.init.json").write_bytes(b"")
    assert state.processes() == ()


def test_recycled_pid_is_not_ours() -> None:
    ours = ProcessRecord.of("self", os.getpid())
    assert ours.alive()
    stranger = ProcessRecord(name="self", pid=ours.pid, start_ticks=ours.start_ticks - 1)
    assert not stranger.alive()
    stranger.kill()  # would end the test run if it were wrong


def test_zombie_counts_as_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        record = ProcessRecord.of("sleep", process.pid)
        record.kill()
        assert wait_until_gone([record], timeout_seconds=5)


def test_down_without_a_lab_does_nothing(state: LabState) -> None:
    steps: list[str] = []
    assert not take_down(state, steps.append)
    assert not steps
    assert not state.directory.exists()
