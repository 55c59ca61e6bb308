"""What gates dropped or, observing, would have dropped: who, what and why, kept beyond the kernel's own room."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from serai.datapath.layout import DENIAL, DENIAL_KEY, EGRESS
from serai.datapath.maps import Array, Map
from serai.datapath.metering import Metering
from serai.datapath.shares import latest_of_each
from serai.model.address import unpack
from serai.model.flow import DIRECTIONS, FlowRow, Outcome
from serai.model.inventory import VnicId
from serai.model.reasons import Reason

_NS = 1_000_000_000
_IDLE_NS = 30 * _NS
_RECORD = np.dtype([("key", DENIAL_KEY), ("denial", DENIAL)])


class Denials:
    """The map of denials, emptied of what is over so that there is room for what comes."""

    def __init__(self, denials: Map, *, remember: int = 65536, metering: Metering | None = None) -> None:
        """Use the gate's map, and keep up to ``remember`` records of what was swept out of it; ``metering`` is told of that."""
        self._metering = metering or Metering()
        self._map = denials
        self._remember = remember
        self._swept: Array = np.empty(0, _RECORD)
        self.forgotten = 0
        """Records that were dropped before anybody read them, because there were too many."""

    def sweep(self, now_ns: int) -> int:
        """Take records out of the kernel that nothing was added to for a while; return how many.

        When the map is half full, all go: a flood must not close it to others.
        """
        keys, values = self._map.dump()
        over = now_ns - values["last_ns"].astype("i8") >= _IDLE_NS
        if len(keys) > self._map.capacity // 2:
            over[:] = True
        self._metering.denying(keys[over], values[over], now_ns)
        taken = self._map.take(keys[over])
        self._metering.denied(*taken, now_ns)
        fresh = np.zeros(len(taken[0]), _RECORD)
        fresh["key"], fresh["denial"] = taken
        self._swept = np.concatenate([self._swept, fresh], dtype=_RECORD)
        kept = latest_of_each(self._swept["key"]["vnic"], self._remember)
        self.forgotten += len(kept) - int(kept.sum())
        self._swept = self._swept[kept]
        return len(fresh)

    def read(self) -> tuple[Array, Array]:
        """Return the keys and values that are in the kernel."""
        return self._map.dump()

    def rows(self, now_ns: int) -> Iterator[FlowRow]:
        """Go through all records: those in the kernel and those swept out of it."""
        yield from _rows(*self._map.dump(), now_ns)
        yield from _rows(self._swept["key"], self._swept["denial"], now_ns)


def _rows(keys: Array, values: Array, now_ns: int) -> Iterator[FlowRow]:
    for key, value in zip(keys, values, strict=True):
        outwards = key["direction"] == EGRESS
        packets, size = int(value["packets"]), int(value["bytes"])
        outcome = Outcome.OBSERVED if key["observed"] else Outcome.DENIED
        yield FlowRow(
            vnic=VnicId(int(key["vnic"])),
            direction=DIRECTIONS[key["direction"] & 1],
            remote=unpack(value["remote"].tobytes()),
            identity=int(key["identity"]),
            protocol=int(key["protocol"]),
            port=int(key["port"]),
            packets_out=packets if outwards else 0,
            packets_in=0 if outwards else packets,
            bytes_out=size if outwards else 0,
            bytes_in=0 if outwards else size,
            outcome=outcome,
            reason=Reason(int(key["reason"])),
            rule=int(value["rule"]),
            staged=Outcome.ACCEPTED if key["staged"] else outcome,
            age_seconds=max(now_ns - int(value["last_ns"]), 0) / _NS,
        )
