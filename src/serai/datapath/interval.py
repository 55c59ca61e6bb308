"""What is new in one interval, as it is told."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from serai.datapath.deltas import RECORD
from serai.datapath.maps import Array
from serai.datapath.meter import PENDING_ROOM
from serai.model.flow_record import DROP_COLUMNS, SIGHTING_COLUMNS, layout

DROP: Final = layout(DROP_COLUMNS)
SIGHTING: Final = layout(SIGHTING_COLUMNS)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What is new since the interval before."""

    flows: Array
    """Of ``FLOW_COLUMNS``; the same of the others."""
    drops: Array
    sightings: Array
    ring: int
    """Ends of flows that are not known (see ``wire.remote.Losses``)."""
    denials: int
    forgotten: int


def joined(first: Interval, second: Interval) -> Interval:
    """Return two intervals as one; of more flows than one may have the oldest are forgotten."""
    flows = np.concatenate([first.flows, second.flows], dtype=RECORD)
    over = max(0, len(flows) - PENDING_ROOM)
    return Interval(
        flows=flows[over:],
        drops=np.concatenate([first.drops, second.drops], dtype=DROP)[-PENDING_ROOM:],
        sightings=np.concatenate([first.sightings, second.sightings], dtype=SIGHTING)[-PENDING_ROOM:],
        ring=first.ring + second.ring,
        denials=first.denials + second.denials,
        forgotten=first.forgotten + second.forgotten + over,
    )
