"""A whole data center in the large: VMs of the same needs are one type, hosts on which the same types may run are one region."""

from __future__ import annotations

import dataclasses

import numpy as np

from serai.migration.plan.layout import Layout
from serai.migration.plan.program import Ints
from serai.migration.plan.rounds import Scene


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """Types of VMs and regions of hosts. How room is divided among the hosts of a region, and who is kept apart, is left out."""

    type: Ints
    """Of each VM."""
    region: Ints
    """Of each host."""
    scene: Scene

    @classmethod
    def of(cls, layout: Layout, reserve: int = 0) -> Regions:
        """Take a layout together; so much memory of each host, in MiB, counts as taken."""
        types, of_kind = np.unique(np.column_stack([layout.allowed, layout.sizes]), axis=0, return_inverse=True)
        type_ = of_kind[layout.kind]
        there = np.zeros((len(types), len(layout.hosts)), np.int64)
        np.add.at(there, (type_, layout.place), 1)
        examples = np.unique(of_kind, return_index=True)[1].tolist()
        spots = np.array([layout.spots(kind) for kind in examples], bool).reshape(there.shape)
        marks = np.vstack([spots, spots | (there > 0), layout.closed])
        _, first, region = np.unique(marks, axis=1, return_index=True, return_inverse=True)
        room = layout.room - np.array([reserve, *[0] * (layout.room.shape[1] - 1)])
        scene = Scene(
            sizes=types[:, 1:], there=_sums(there.T, region).T, spots=spots[:, first], leaving=layout.closed[first],
            free=_sums(np.maximum(room, layout.load), region), cost=np.ones(len(types), np.int64),
        )  # fmt: skip
        return cls(type=type_, region=region, scene=scene)


def _sums(table: Ints, region: Ints) -> Ints:
    found = np.zeros((int(region.max()) + 1, table.shape[1]), np.int64)
    np.add.at(found, region, table)
    return found
