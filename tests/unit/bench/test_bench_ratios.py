from __future__ import annotations

import json

import pytest

from bench.metric import Metric
from bench.ratios import columns_not_first, median_ratio


def test_each_round_is_compared_with_itself() -> None:
    # A machine that was busy in the second round makes both of its measurements slow.
    assert median_ratio([(100, 110), (900, 990), (100, 120)]) == pytest.approx(1.1)


def test_one_bad_round_does_not_count() -> None:
    assert median_ratio([(100, 105), (100, 105), (100, 900)]) == pytest.approx(1.05)


def test_columns_in_which_a_peer_is_cheaper() -> None:
    gate = {"rr": 1.1, "crr": 1.2, "newflow": 2.0}
    peers = [{"rr": 1.2, "crr": 1.1, "newflow": 1.9}, {"rr": 1.3, "crr": 1.15, "newflow": 9.0}]
    assert columns_not_first(gate, peers) == 2
    assert columns_not_first(gate, [gate]) == 0, "as cheap is not cheaper"
    assert columns_not_first(gate, []) == 0


def test_what_cannot_be_measured_says_so_and_keeps_no_promise() -> None:
    absent = Metric(name="a", value=None, unit="s", goal=1, missing="no nft on this machine")
    assert not absent.ok
    assert absent.row() == ("a", "-", "s", "<= 1", "no nft on this machine")
    assert json.loads(json.dumps(absent.fields())) == {
        "value": None,
        "unit": "s",
        "goal": 1,
        "ok": False,
        "missing": "no nft on this machine",
    }


def test_metrics_that_were_measured() -> None:
    kept = Metric(name="a", value=0.5, unit="s", goal=1)
    assert (kept.ok, kept.row()[-1], "missing" in kept.fields()) == (True, "ok", False)
    missed = Metric(name="a", value=1.5, unit="s", goal=1)
    assert (missed.ok, missed.row()[-1]) == (False, "MISSED")
    assert Metric(name="a", value=1.5, unit="s").row()[3:] == ("-", "ok")
