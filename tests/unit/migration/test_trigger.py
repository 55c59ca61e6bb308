"""When a pool is rebalanced by itself."""

from __future__ import annotations

import pytest

from serai.migration.plan.asked import PlanHost
from serai.migration.trigger import ThresholdError, Thresholds, Trigger, fullness

EVEN, UNEVEN, FULL = [0.5, 0.6], [0.5, 0.71], [0.92, 0.8]
WHY = "the fullest host is 71% full, and the emptiest 50%"


@pytest.mark.parametrize(
    ("looks", "fired"),
    [
        ([(0, EVEN), (9999, EVEN)], []),
        ([(0, UNEVEN), (599, UNEVEN)], []),
        ([(0, UNEVEN), (600, UNEVEN)], [600]),
        ([(0, UNEVEN), (300, EVEN), (600, UNEVEN), (1199, UNEVEN)], []),  # it must last
        ([(0, UNEVEN), (600, UNEVEN), (1300, UNEVEN), (4199, UNEVEN)], [600]),  # not again and again
        ([(0, UNEVEN), (600, UNEVEN), (1300, UNEVEN), (4200, UNEVEN)], [600, 4200]),
        ([(0, UNEVEN), (600, UNEVEN), (4200, UNEVEN), (4799, UNEVEN)], [600]),  # it must last again
        ([(0, FULL), (600, FULL)], [600]),
        ([(0, []), (600, [])], []),
        ([(0, [0.99]), (600, [0.99])], []),  # there is no other host
        ([(0, [0.95, 0.9]), (600, [0.95, 0.9])], []),  # the other is as full
    ],
)
def test_it_fires_when_it_lasts_and_then_pauses(looks: list[tuple[float, list[float]]], fired: list[float]) -> None:
    trigger = Trigger(Thresholds())
    assert [now for now, hosts in looks if trigger.look(hosts, now)] == fired


def test_it_says_why() -> None:
    at_once = Thresholds(lasting_seconds=0)
    assert Trigger(at_once).look(UNEVEN, 0) == WHY
    assert Trigger(at_once).look(FULL, 0) == "a host is 92% full, and another 80%"


@pytest.mark.parametrize(
    "bad",
    [{"spread": 0}, {"spread": 1}, {"fullest": 0}, {"fullest": 1.1}, {"lasting_seconds": -1}, {"pause_seconds": -1}],
)
def test_thresholds_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ThresholdError):
        Thresholds(**bad)


def test_a_host_without_memory_is_full() -> None:
    host = PlanHost(name="a", memory_mib=0, vnics=1)
    assert fullness(host, 0) == 1
    assert fullness(PlanHost(name="a", memory_mib=8, vnics=1), 2) == 0.25
