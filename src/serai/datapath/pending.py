"""Records that wait for the end of their interval: how old their flows are then is not known yet."""

from __future__ import annotations

from typing import Final

import numpy as np

from serai.datapath.maps import Array, opaque, pick
from serai.datapath.shares import latest_of_each
from serai.model.flow_record import BATCH_RECORDS, FLOW_COLUMNS, layout

RECORD: Final = layout(FLOW_COLUMNS)
PENDING: Final = np.dtype([("record", RECORD), ("first_ns", "<u8"), ("last_ns", "<u8")])

_NS_OF_MS: Final = np.uint64(1_000_000)
_MOST: Final = np.uint64((1 << 32) - 1)


class Pending:
    """Records in the order in which they came, in blocks as long as a batch may be: they are never copied into one array."""

    def __init__(self) -> None:
        """Begin with none."""
        self._blocks: list[Array] = []
        self._free = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._blocks) * BATCH_RECORDS - self._free

    def add(self, records: Array) -> None:
        """Keep these (``PENDING``) too."""
        done = 0
        while done < len(records):
            if not self._free:
                self._blocks.append(np.empty(BATCH_RECORDS, PENDING))  # memory is taken as it is written
                self._free = BATCH_RECORDS
            count, at = min(self._free, len(records) - done), BATCH_RECORDS - self._free
            opaque(self._blocks[-1])[at : at + count] = opaque(records[done : done + count])
            done += count
            self._free -= count

    def trim(self, room: int) -> int:
        """Keep no more than there is ``room`` for, and return how many had to go: who has most to tell loses most."""
        if len(self) <= room:
            return 0
        before, parts = len(self), self._take()
        kept = latest_of_each(np.concatenate([part["record"]["vnic"] for part in parts]), room)
        at = 0
        while parts:  # one by one, so that they take no more memory than once
            part = parts.pop(0)
            self.add(pick(part, kept[at : at + len(part)]))
            at += len(part)
        return before - len(self)

    def take(self, at: int, now_ns: int) -> list[Array]:
        """Return the records of an interval that ends now (``at``, in seconds since 1970), in pieces, and keep none."""
        parts = self._take()
        now = np.uint64(now_ns)
        for part in parts:
            record = part["record"]
            record["at"] = at
            for column, field in (("age_ms", "first_ns"), ("idle_ms", "last_ns")):
                record[column] = np.minimum((now - np.minimum(part[field], now)) // _NS_OF_MS, _MOST)
        return [part["record"] for part in parts]

    def _take(self) -> list[Array]:
        parts, free = self._blocks, self._free
        self._blocks, self._free = [], 0
        return [*parts[:-1], parts[-1][: BATCH_RECORDS - free]] if parts else []
