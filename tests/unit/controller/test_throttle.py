"""Attempts are counted, and what is counted never takes more memory than was said."""

from __future__ import annotations

import pytest
from people_memory import START, after

from serai.controller.throttle import Throttle, neighborhood


def test_attempts_are_counted_by_key_and_window() -> None:
    throttle = Throttle(limit=2, seconds=10)
    assert [throttle.take("a", START) for _ in range(3)] == [None, None, 10]
    assert throttle.take("b", START) is None
    assert throttle.take("a", after(9.5)) == 1
    assert throttle.take("a", after(10)) is None


def test_what_is_given_back_was_no_attempt() -> None:
    throttle = Throttle(limit=1, seconds=10)
    for _ in range(5):
        assert throttle.take("a", START) is None
        throttle.give_back("a")
    throttle.give_back("never")
    assert throttle.take("a", START) is None
    assert throttle.take("a", START) is not None


def test_a_clock_that_is_set_back_keeps_nobody_out() -> None:
    throttle = Throttle(limit=1, seconds=10)
    throttle.take("a", START)
    assert throttle.take("a", after(-1000)) is None


def test_the_memory_is_bounded() -> None:
    throttle = Throttle(limit=1, seconds=10, most_keys=100)
    for number in range(10_000):
        throttle.take(number, START)
    assert len(throttle) == 100
    assert throttle.take(9_999, START) is not None


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("x" * 100, "x" * 64),
        ("", ""),
    ],
)
def test_neighbors_count_as_one(address: str, near: str) -> None:
    assert neighborhood(address) == near
