"""Work in another process is done once, and what goes wrong there is told as if it were done here."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from serai.controller.elsewhere import ElsewhereError, elsewhere, only_elsewhere


def children() -> set[int]:
    """Processes whose parent is this one, those that have ended and were not waited for included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = children()  # of tests before
    yield
    assert children() <= before


def test_work_is_done_elsewhere_with_all_that_is_here() -> None:
    much = {"a": list(range(100_000))}
    where, told = elsewhere(lambda: (os.getpid(), sum(much["a"])))
    assert where != os.getpid()
    assert told == sum(range(100_000))


def test_an_error_elsewhere_is_told_here() -> None:
    def fails() -> int:
        raise KeyError(os.getpid())

    with pytest.raises(KeyError, match=str(os.getpid())):
        elsewhere(fails)


def test_a_process_that_dies_costs_time_and_nothing_else() -> None:
    here = os.getpid()

    def dies() -> str:
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        return "done"

    assert elsewhere(dies) == "done"


def killed() -> str:
    os.kill(os.getpid(), 9)
    return "never"


def crashes() -> str:
    os.abort()


def fails() -> str:
    raise KeyError("no")


def sleeps() -> str:
    time.sleep(60)
    return "too late"


ENDS: Mapping[str, tuple[Callable[[], str], int, str]] = {
    "killed": (killed, 60, "it died of signal 9"), "crashes": (crashes, 60, "it died of signal 6"),
    "fails": (fails, 60, "it failed"), "sleeps": (sleeps, 1, "it took longer than 1 s"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(ENDS))
def test_what_must_not_be_done_here_is_not_done_here_whatever_becomes_of_it(case: str) -> None:
    job, seconds, said = ENDS[case]
    with pytest.raises(ElsewhereError, match=f"^{said}$"):
        only_elsewhere(job, seconds)


def test_what_is_done_elsewhere_only_is_told_and_has_nothing_open_of_ours() -> None:
    with socket.socket(), socket.socket():
        where, files = only_elsewhere(lambda: (os.getpid(), [*Path("/proc/self/fd").iterdir()]), 60)
    assert where != os.getpid()
    assert len(files) == 3 + 1 + 1  # its own, the pipe, and the directory that it lists
