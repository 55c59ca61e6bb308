"""Puts moves that can be made one after the other into as few rounds as their order allows."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Step

_What = int | str
"""A column of what hosts have room for, or a group, of which a host takes one VM."""


def straight(layout: Layout, moves: Sequence[Step]) -> list[Step]:
    """Have each VM that leaves a closed host go where it ends at once, when it would have come there.

    It stays longer where nobody arrives, and needs no room in between.
    """
    first: dict[int, int] = {}
    last = {machine: at for at, (machine, _, _) in enumerate(moves)}
    found = []
    for at, (machine, source, to) in enumerate(moves):
        begins = first.setdefault(machine, source)
        if not layout.closed[begins]:
            found.append((machine, source, to))
        elif last[machine] == at:
            found.append((machine, begins, to))
    return found


def into_rounds(layout: Layout, moves: Sequence[Step]) -> list[list[Step]]:
    """Return the moves in rounds, each in the earliest in which its destination has room from then on.

    Args:
        layout: before the moves.
        moves: in an order in which they can be made one by one.
    """
    held = _Held(layout)
    free_from: dict[int, int] = collections.defaultdict(int)
    rounds: list[list[Step]] = []
    for machine, source, to in moves:
        kind = int(layout.kind[machine])
        at = max(free_from[machine], held.room_from(kind, to))
        held.come(kind, to, at)
        held.go(kind, source, at)
        free_from[machine] = at + 1
        rounds += [[] for _ in range(at + 1 - len(rounds))]
        rounds[at].append((machine, source, to))
    return rounds


class _Held:
    """What hosts hold in each round, while those who leave in it are there still."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._series: dict[tuple[_What, int], list[int]] = {}
        """Of each thing and host: how much of it is taken in each round; the last one goes on for ever."""

    def room_from(self, kind: int, host: int) -> int:
        """Return the round from which on a host has room for one VM more."""
        found = 0
        for what, need in self._needs(kind):
            most = (1 if isinstance(what, str) else int(self._layout.room[host, what])) - need
            taken = self._of(what, host)
            found = max(found, next((at + 1 for at in reversed(range(len(taken))) if taken[at] > most), 0))
        return found

    def come(self, kind: int, host: int, at: int) -> None:
        """Note that a VM is there from a round on."""
        self._change(kind, host, at, 1)

    def go(self, kind: int, host: int, at: int) -> None:
        """Note that a VM is there to the end of a round."""
        self._change(kind, host, at + 1, -1)

    def _change(self, kind: int, host: int, first: int, times: int) -> None:
        for what, need in self._needs(kind):
            taken = self._of(what, host)
            taken += taken[-1:] * (first + 1 - len(taken))
            taken[first:] = [each + times * need for each in taken[first:]]

    def _needs(self, kind: int) -> list[tuple[_What, int]]:
        needs: list[tuple[_What, int]] = [
            (at, need) for at, need in enumerate(self._layout.sizes[kind].tolist()) if need
        ]
        return needs + [(group, 1) for group in self._layout.apart[kind]]

    def _of(self, what: _What, host: int) -> list[int]:
        if (what, host) not in self._series:
            if isinstance(what, str):
                count = int((self._layout.place[self._layout.group(what)] == host).sum())
            else:
                count = int(self._layout.load[host, what])
            self._series[what, host] = [count]
        return self._series[what, host]
