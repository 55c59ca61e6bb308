"""Records that wait for the end of their interval, and intervals that wait for a disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.datapath import interval as interval_module
from serai.datapath import pending as pending_module
from serai.datapath.interval import DROP, SIGHTING, Interval, joined
from serai.datapath.maps import together
from serai.datapath.pending import PENDING, RECORD, Pending
from serai.datapath.shares import latest_of_each

BLOCK = 8
AT, NOW = 1_700_000_000, 10**12


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending_module, "BATCH_RECORDS", BLOCK)
        yield


def records(owners: list[int], first: int = 0) -> Any:
    made = np.zeros(len(owners), PENDING)
    made["record"]["vnic"] = owners
    made["record"]["packets_out"] = np.arange(first, first + len(owners))
    made["first_ns"], made["last_ns"] = NOW - 7_000_000, NOW - 2_999_999
    return made


groups = st.lists(st.lists(st.integers(0, 3), max_size=3 * BLOCK), max_size=8)


@settings(deadline=None)
@given(groups, st.integers(0, 60))
def test_they_come_in_their_order_and_who_has_most_loses_most(parts: list[list[int]], room: int) -> None:
    pending = Pending()
    every = []
    for owners in parts:
        every.append(records(owners, sum(map(len, every))))
        pending.add(every[-1])
    whole = together(every, PENDING)["record"]
    assert len(pending) == len(whole)
    kept = latest_of_each(whole["vnic"], room)
    assert pending.trim(room) == len(whole) - kept.sum()
    assert len(pending) == kept.sum()
    pieces = pending.take(AT, NOW)
    assert all(len(piece) == BLOCK for piece in pieces[:-1]), "in blocks that are full"
    assert [number for piece in pieces for number in piece["packets_out"].tolist()] == whole["packets_out"][
        kept
    ].tolist()
    assert (len(pending), pending.take(AT, NOW)) == (0, [])


def test_they_are_as_old_as_they_are_when_the_interval_ends() -> None:
    pending = Pending()
    late = records([5, 5])
    late["first_ns"][1], late["last_ns"][1] = 0, NOW + 1  # older than the column can say; from after the clock was read
    pending.add(late)
    ((first, second),) = pending.take(AT, NOW)
    assert [first[name] for name in ("at", "age_ms", "idle_ms")] == [AT, 7, 2]
    assert [second[name] for name in ("age_ms", "idle_ms")] == [NOW // 1_000_000, 0]
    pending.add(records([5]))
    ((only,),) = pending.take(AT, 10**17)
    assert only["age_ms"] == (1 << 32) - 1


def told(pieces: list[list[int]], **lost: int) -> Interval:
    flows = []
    for numbers in pieces:
        rows = np.zeros(len(numbers), RECORD)
        rows["packets_out"] = numbers
        flows.append(rows)
    nothing = {"ring": 0, "denials": 0, "forgotten": 0}
    return Interval(flows=flows, drops=np.empty(0, DROP), sightings=np.empty(0, SIGHTING), **nothing | lost)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4, 5, 6, 7])
def test_of_two_intervals_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(interval_module, "PENDING_ROOM", room)
    both = joined(told([[1, 2], [3]], ring=1, forgotten=2), told([[], [4, 5, 6]], ring=3))
    kept = [number for piece in both.flows for number in piece["packets_out"].tolist()]
    assert kept == [1, 2, 3, 4, 5, 6][max(0, 6 - room) :]
    assert (both.ring, both.forgotten) == (4, 2 + max(0, 6 - room))
