"""What the kernel has counted, as the metering reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from serai.datapath.denials import Denials
from serai.datapath.flows import FlowTables
from serai.datapath.maps import Array
from serai.datapath.samples import Samples
from serai.datapath.sightings import Sightings
from serai.datapath.slots import Slots


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A ``Kernel`` made of the parts of one host's gates."""

    tables: FlowTables
    slots: Slots
    records: Denials
    seen: Sightings
    ring: Samples

    def flows(self) -> Iterator[tuple[int, Array, Array]]:
        """All tables: vNIC, keys, flows."""
        yield from self.tables.tables()

    def ended(self) -> Array:
        """The flows that the gate has ended, and of which nobody has heard yet (``ENDED_EVENT``)."""
        return self.ring.ended()

    def vnics(self) -> Collection[int]:
        """The vNICs that have tables."""
        return self.tables.vnics

    def denials(self) -> tuple[Array, Array]:
        """All records of denials."""
        return self.records.read()

    def meters(self) -> tuple[Array, Array]:
        """The vNICs that have slots, and an unknown one; and what was counted for each."""
        vnics, meters = self.slots.meters()
        return np.array(vnics, "<u8"), meters

    def sightings(self) -> Array:
        """What was seen of the messages that make a link work, since each vNIC came."""
        return self.seen.counts()
