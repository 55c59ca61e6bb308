"""What two hosts tell of a move, put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.migration.receipt import grown, together, unheard
from serai.migration.states import State
from serai.model.migration import Facts

COUNTS = st.integers(0, 2**63)
FACTS = st.builds(
    Facts, flows_first=COUNTS, flows_later=COUNTS, refused=COUNTS, unprotected=COUNTS, encrypted=st.none() | st.booleans(),
    gap_us=st.none() | COUNTS, digest=st.sampled_from(["", "a" * 64, "b" * 64]),
)  # fmt: skip


@given(FACTS, FACTS)
def test_what_is_told_again_or_left_out_changes_nothing(known: Facts, told: Facts) -> None:
    assert grown(known, Facts()) == known
    once = grown(known, told)
    assert grown(once, told) == once
    assert grown(Facts(), told) == told


@given(FACTS, FACTS)
def test_no_unprotected_packet_gets_lost_and_doubt_is_not_encryption(source: Facts, destination: Facts) -> None:
    found = together(source, destination, "d" * 64)
    assert found.unprotected == source.unprotected + destination.unprotected
    assert (found.encrypted is True) == ({source.encrypted, destination.encrypted} - {None} == {True})
    assert (found.encrypted is None) == ({source.encrypted, destination.encrypted} == {None})
    assert found.digest == "d" * 64


def test_each_host_is_believed_about_its_own() -> None:
    source = Facts(flows_first=10, flows_later=5, gap_us=7, digest="a" * 64)
    destination = Facts(flows_first=9, refused=1, gap_us=8)
    assert together(source, destination, "b" * 64) == Facts(
        digest="b" * 64, flows_first=9, flows_later=5, refused=1, gap_us=7
    )


@pytest.mark.parametrize(
    ("at", "who"),
    [
        (State.LIVE, ["a", "b"]),
        (State.CARRIED, ["a"]),
        (State.FENCED, ["b"]),
        (State.ABORTING, ["a"]),
        *((state, []) for state in State if state not in {State.LIVE, State.CARRIED, State.FENCED, State.ABORTING}),
    ],
)
def test_who_has_not_told_is_named(at: State, who: list[str]) -> None:
    assert unheard(at, "a", "b") == who
