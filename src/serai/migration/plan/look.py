"""A part of a data center as the solver sees it, and what it found as moves of VMs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from serai.migration.plan.layout import Layout
from serai.migration.plan.program import NOBODY, Bools, Ints
from serai.migration.plan.rounds import Rounds, Scene

Step = tuple[int, int, int]
"""A VM, the host that it leaves, the host that it goes to."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """Some VMs of a layout, and some hosts."""

    scene: Scene
    places: Ints
    """The host of each column but the first, which stands for all hosts that are to become empty."""
    machines: dict[tuple[int, int], list[int]]
    """The VMs of each kind (row) and place (column) that are looked at."""

    @classmethod
    def at(cls, layout: Layout, machines: Ints, hosts: Ints, free: Collection[int] = ()) -> Look:
        """Look at VMs that may move, and hosts that take them. Moves of those in ``free`` cost nothing."""
        gratis = np.isin(machines, np.fromiter(free, np.int64, len(free)))
        kinds, row = np.unique(layout.kind[machines] * 2 + gratis, return_inverse=True)
        number = np.zeros(len(layout.hosts), np.int64)
        number[hosts] = np.arange(1, len(hosts) + 1)
        column = number[layout.place[machines]]
        there = np.zeros((len(kinds), len(hosts) + 1), np.int64)
        np.add.at(there, (row, column), 1)
        spots = np.zeros(there.shape, bool)
        for at, kind in enumerate((kinds // 2).tolist()):
            spots[at, 1:] = layout.spots(kind)[hosts]
        sizes = layout.sizes[kinds // 2]
        needs, room = _apart(layout, (kinds // 2).tolist(), machines, hosts)
        staying = np.zeros((len(hosts) + 1, sizes.shape[1]), np.int64)
        staying[1:] = layout.room[hosts] - layout.load[hosts] + (sizes.T @ there).T[1:]
        grouped: dict[tuple[int, int], list[int]] = {}
        for machine, *where in zip(machines.tolist(), row.tolist(), column.tolist(), strict=True):
            grouped.setdefault((where[0], where[1]), []).append(machine)
        scene = Scene(
            sizes=np.hstack([sizes, needs]), there=there, spots=spots, leaving=np.arange(len(hosts) + 1) == 0,
            free=np.hstack([staying, room]), cost=1 - kinds % 2,
        )  # fmt: skip
        return cls(scene=scene, places=hosts, machines=grouped)

    def moves(self, layout: Layout, rounds: Rounds, values: Ints) -> list[Step]:
        """Return what was found as moves, in order. VMs of one kind are interchangeable: the first by name move."""
        waiting = {where: list(machines) for where, machines in self.machines.items()}
        place = {machine: int(layout.place[machine]) for machines in waiting.values() for machine in machines}
        found = []
        for arrive, depart in zip(rounds.arrive, rounds.depart, strict=True):
            change = counts(values, arrive) - counts(values, depart)
            for row in np.flatnonzero(change.any(axis=1)).tolist():
                go = [waiting[row, at].pop(0) for at, more in enumerate(change[row].tolist()) for _ in range(-more)]
                targets = np.repeat(np.arange(change.shape[1]), np.maximum(change[row], 0)).tolist()
                for machine, target in zip(go, targets, strict=True):
                    to = int(self.places[target - 1])
                    found.append((machine, place[machine], to))
                    place[machine] = to
                    waiting.setdefault((row, target), []).append(machine)
        return found


def _apart(layout: Layout, kinds: list[int], machines: Ints, hosts: Ints) -> tuple[Ints, Ints]:
    """Return for each group what its VMs need of a host, which is 1, and what there is of that: 1, less those that stay."""
    groups = sorted({group for kind in kinds for group in layout.apart[kind]})
    needs = np.array([[group in layout.apart[kind] for group in groups] for kind in kinds], np.int64)
    room = np.ones((len(hosts) + 1, len(groups)), np.int64)
    moving: Bools = np.zeros(len(layout.machines), bool)
    moving[machines] = True
    for at, group in enumerate(groups):
        members = layout.group(group)
        held = np.bincount(layout.place[members[~moving[members]]], minlength=len(layout.hosts))
        room[1:, at] -= held[hosts]
    return needs.reshape(len(kinds), len(groups)), room


def counts(values: Ints, table: Ints) -> Ints:
    """Return what a table of quantities came to."""
    return np.where(table != NOBODY, values[table], 0)
