"""How often somebody may ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serai.controller.api.rates import Rates


def test_a_bucket_fills_steadily() -> None:
    rates = Rates(per_second=2, burst=3)
    assert [rates.take("a", 0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.take("b", 0) == 0
    assert [rates.take("a", 0.5), rates.take("a", 0.5)] == [0, 0.5]
    assert [rates.take("a", 100) for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.take("a", 0) > 0  # a clock that goes back gives nothing


@given(st.lists(st.floats(0, 10), max_size=200))
def test_nobody_gets_more_than_the_rate_and_the_burst(pauses: list[float]) -> None:
    rates, now, got = Rates(per_second=2, burst=5), 0.0, 0
    for pause in pauses:
        now += pause
        got += rates.take("a", now) == 0
    assert got <= 5 + 2 * now + 1e-6


def test_only_so_many_are_remembered() -> None:
    rates = Rates(per_second=1, burst=1, most=100)
    for number in range(1000):
        rates.take(str(number), 0)
    assert len(rates._buckets) == 100
    assert rates.take("999", 0) > 0
