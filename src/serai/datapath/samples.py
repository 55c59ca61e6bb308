"""The latest packets that gates told of, and the flows that ended inside a gate."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from serai.datapath.events import Ring
from serai.datapath.flows import FlowTables
from serai.datapath.layout import EVENT_DROP, EVENT_ENDED
from serai.datapath.maps import Array
from serai.model.address import unpack
from serai.model.flow import DIRECTIONS, DropSample
from serai.model.inventory import VnicId
from serai.model.reasons import Reason

_NS = 1_000_000_000


class Samples:
    """What came out of the ring: samples of drops, the latest of them kept; ended flows go to the flow tables."""

    def __init__(self, ring: Ring, flows: FlowTables, *, remember: int = 4096) -> None:
        """Read ``ring`` whenever ``read`` is called, and keep up to ``remember`` samples."""
        self._ring = ring
        self._flows = flows
        self._latest: collections.deque[Array] = collections.deque(maxlen=remember)
        self.seen = 0
        """How many samples there were."""

    def read(self) -> None:
        """Take what the ring holds.

        Raises:
            OSError: ended flows cannot be written to their file; they are remembered in memory only.
        """
        events = self._ring.look()
        try:
            drops, ended = events[EVENT_DROP], events[EVENT_ENDED]
            self._latest.extend(drops)
            self.seen += len(drops)
            if len(ended):  # an agent that is killed here is told once more
                self._flows.end(ended["vnic"], ended["key"], ended["flow"], told_by_gate=True)
        finally:
            self._ring.done()

    def ended(self) -> Array:
        """Return the flows of which the ring tells and ``read`` has not (``ENDED_EVENT``)."""
        return self._ring.look()[EVENT_ENDED]

    def latest(self, now_ns: int) -> Iterator[DropSample]:
        """Go through the samples that are kept, oldest first."""
        for event in list(self._latest):
            packet = event["packet"]
            yield DropSample(
                vnic=VnicId(int(event["vnic"])),
                age_seconds=max(now_ns - int(event["ns"]), 0) / _NS,
                direction=DIRECTIONS[event["direction"] & 1],
                reason=Reason(int(event["reason"])),
                observed=bool(event["observed"]),
                local=unpack(packet["local"].tobytes()),
                remote=unpack(packet["remote"].tobytes()),
                local_port=int(packet["local_port"]),
                remote_port=int(packet["remote_port"]),
                protocol=int(packet["protocol"]),
                port=int(event["port"]),
                length=int(event["length"]),
                tcp_flags=int(event["tcp_flags"]),
                rule=int(event["rule"]),
            )

    def close(self) -> None:
        """Let go of the ring."""
        self._ring.close()
