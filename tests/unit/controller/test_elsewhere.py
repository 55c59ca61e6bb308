"""Work in another process is done once, and what goes wrong there is told as if it were done here."""

from __future__ import annotations

import os

import pytest

from serai.controller.elsewhere import elsewhere


def no_process_is_left() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_work_is_done_elsewhere_with_all_that_is_here() -> None:
    much = {"a": list(range(100_000))}
    where, told = elsewhere(lambda: (os.getpid(), sum(much["a"])))
    assert where != os.getpid()
    assert told == sum(range(100_000))
    assert no_process_is_left()


def test_an_error_elsewhere_is_told_here() -> None:
    def fails() -> int:
        raise KeyError(os.getpid())

    with pytest.raises(KeyError, match=str(os.getpid())):
        elsewhere(fails)
    assert no_process_is_left()


def test_a_process_that_dies_costs_time_and_nothing_else() -> None:
    here = os.getpid()

    def dies() -> str:
        if os.getpid() != here:
            os.kill(os.getpid(), 9)
        return "done"

    assert elsewhere(dies) == "done"
    assert no_process_is_left()
