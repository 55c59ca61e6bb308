"""What is new in one interval, as it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from serai.datapath.maps import Array, together
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
    over = max(0, sum(map(len, flows)) - PENDING_ROOM)
    return Interval(
        flows=_behind(flows, over),
        drops=together([first.drops, second.drops], DROP)[-PENDING_ROOM:],
        sightings=together([first.sightings, second.sightings], SIGHTING)[-PENDING_ROOM:],
        ring=first.ring + second.ring,
        denials=first.denials + second.denials,
        forgotten=first.forgotten + second.forgotten + over,
    )


def _behind(parts: Sequence[Array], count: int) -> list[Array]:
    """All but the first so many."""
    kept = []
    for part in parts:
        if len(part) > count:
            kept.append(part[count:])
        count = max(0, count - len(part))
    return kept
