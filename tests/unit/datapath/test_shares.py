"""Who keeps how many records where there is not room for all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serai.datapath.shares import latest_of_each


def test_one_that_fills_the_room_takes_none_from_others() -> None:
    vnics = np.array([7, 8, 7, *[9] * 100], "<u8")
    kept = latest_of_each(vnics, 10)
    assert vnics[kept].tolist() == [7, 8, 7, *[9] * 7]
    assert kept[-7:].all(), "of its own the latest stay"


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 70))
def test_all_room_is_used_and_nobody_with_few_loses(owners: list[int], room: int) -> None:
    vnics = np.array(owners, "<u8")
    kept = latest_of_each(vnics, room)
    assert kept.sum() == min(len(owners), room)
    have = {owner: owners.count(owner) for owner in owners}
    left = {owner: int(kept[vnics == owner].sum()) for owner in owners}
    losers = [owner for owner in have if left[owner] < have[owner]]
    assert all(left[other] <= left[loser] + 1 for loser in losers for other in left)
