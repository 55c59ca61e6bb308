"""Moves in rounds."""

from __future__ import annotations

import pytest
from planning import host, vm

from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Step
from serai.migration.plan.order import into_rounds, straight

A, B, C, D = range(4)
HOSTS = [host("a", 9), host("b", 4), host("c", 4), host("d", 9)]
MACHINES = [
    vm("/t:0", "a", 2, "a b c d"),
    vm("/t:1", "b", 2, "a b c d"),
    vm("/t:2", "b", 2, "a b c d"),
    vm("/t:3", "c", 1, "a b c d", ("g",)),
    vm("/t:4", "a", 1, "a b c d", ("g",)),
]


def layout(closed: str = "a") -> Layout:
    return Layout(HOSTS, MACHINES, frozenset(closed))


@pytest.mark.parametrize(
    ("moves", "rounds"),
    [
        ([], []),
        ([(0, A, D), (1, B, D)], [[(0, A, D), (1, B, D)]]),
        ([(1, B, D), (0, A, B)], [[(1, B, D)], [(0, A, B)]]),  # b is full until 1 has gone
        ([(1, B, D), (0, A, B), (0, B, C)], [[(1, B, D)], [(0, A, B)], [(0, B, C)]]),
        ([(1, B, D), (0, A, B), (3, C, D)], [[(1, B, D), (3, C, D)], [(0, A, B)]]),  # who waits for nobody goes first
        ([(3, C, D), (4, A, C)], [[(3, C, D)], [(4, A, C)]]),  # apart until 3 has gone
        ([(2, B, C), (1, B, D), (0, A, B)], [[(2, B, C), (1, B, D)], [(0, A, B)]]),
    ],
)
def test_each_moves_as_soon_as_there_is_room(moves: list[Step], rounds: list[list[Step]]) -> None:
    assert into_rounds(layout(), moves) == rounds


def test_room_is_not_given_away_twice() -> None:
    """1 makes room in b for 0; then 4 takes what is left."""
    assert into_rounds(layout(), [(1, B, D), (0, A, B), (2, B, D), (4, A, B)]) == [
        [(1, B, D), (2, B, D)],
        [(0, A, B), (4, A, B)],
    ]


def test_who_leaves_a_closed_host_goes_straight_to_where_it_ends() -> None:
    moves = [(0, A, C), (1, B, D), (0, C, B), (1, D, C)]
    assert straight(layout(), moves) == [(1, B, D), (0, A, B), (1, D, C)]
    assert straight(layout("d"), moves) == moves
