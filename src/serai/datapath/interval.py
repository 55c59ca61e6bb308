"""What is new in one interval, as it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from serai.datapath.maps import Array
from serai.datapath.maps import joined as as_one
from serai.datapath.meter import PENDING_ROOM
from serai.model.flow_record import DROP_COLUMNS, SIGHTING_COLUMNS, layout

DROP: Final = layout(DROP_COLUMNS)
SIGHTING: Final = layout(SIGHTING_COLUMNS)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What is new since the interval before."""

    flows: Sequence[Array]
    """Of ``FLOW_COLUMNS``, in pieces; the others of their columns."""
    drops: Array
    sightings: Array
    ring: int
    """Ends of flows that are not known (see ``wire.remote.Losses``)."""
    denials: int
    forgotten: int


def joined(first: Interval, second: Interval) -> Interval:
    """Return two intervals as one; of more flows than one may have the oldest are forgotten."""
    flows = [*first.flows, *second.flows]
    over = left = max(0, sum(map(len, flows)) - PENDING_ROOM)
    while left:
        left -= (gone := min(left, len(flows[0])))
        flows[:1] = [flows[0][gone:]] if gone < len(flows[0]) else []
    return Interval(
        flows=flows,
        drops=as_one([first.drops, second.drops], DROP)[-PENDING_ROOM:],
        sightings=as_one([first.sightings, second.sightings], SIGHTING)[-PENDING_ROOM:],
        ring=first.ring + second.ring,
        denials=first.denials + second.denials,
        forgotten=first.forgotten + second.forgotten + over,
    )
