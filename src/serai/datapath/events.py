"""Reads the gate's ring of events: a ring buffer that the kernel fills and user space empties (mmap).

The layout is the kernel's (Documentation/bpf/ringbuf.rst): a page with our position, a page with the kernel's, then
the data, mapped twice so that no record is broken by the end. Each record has a header of 8 bytes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Final

import numpy as np

from serai.datapath.layout import DROP_EVENT, ENDED_EVENT, EVENT_DROP, EVENT_ENDED
from serai.datapath.maps import Array, Map

_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEADER: Final = 8
_KINDS: Final = {EVENT_DROP: DROP_EVENT, EVENT_ENDED: ENDED_EVENT}


class Ring:
    """One ring, read by one reader."""

    def __init__(self, fd: int) -> None:
        """Take over ``fd``."""
        self.fd = fd
        """Becomes readable when there are events."""
        size = Map(os.dup(fd), np.dtype("V0"), np.dtype("V0")).capacity
        page = mmap.PAGESIZE
        self._ours = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._theirs = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumed = np.frombuffer(self._ours, "<u8", 1)
        self._produced = np.frombuffer(self._theirs, "<u8", 1)
        self._data = np.frombuffer(self._theirs, "u1", 2 * size, page)
        self._mask = size - 1
        self._seen = int(self._consumed[0])

    def read(self) -> dict[int, Array]:
        """Take all events that are there: by kind, arrays of ``DROP_EVENT`` or ``ENDED_EVENT``, oldest first."""
        found = self.look()
        self.done()
        return found

    def look(self) -> dict[int, Array]:
        """Return what ``read`` does, and leave the events there until ``done``."""
        found: dict[int, list[bytes]] = {kind: [] for kind in _KINDS}
        for record in self._records():
            kind = int.from_bytes(record[:4], "little")
            if kind in _KINDS:
                found[kind].append(record)
        return {kind: np.frombuffer(b"".join(parts), _KINDS[kind]) for kind, parts in found.items()}

    def done(self) -> None:
        """Give room for other events, in the place of those that ``look`` has returned."""
        self._consumed[0] = self._seen

    def close(self) -> None:
        """Let go of the ring."""
        del self._consumed, self._produced, self._data
        self._ours.close()
        self._theirs.close()
        os.close(self.fd)

    def _records(self) -> Iterator[bytes]:
        at, end = int(self._consumed[0]), int(self._produced[0])
        self._seen = at
        while at < end:
            start = at & self._mask
            length = int.from_bytes(self._data[start : start + 4].tobytes(), "little")
            if length & _BUSY:  # the kernel is still writing it
                return
            size = length & ~_DISCARDED
            if not length & _DISCARDED:
                yield self._data[start + _HEADER : start + _HEADER + size].tobytes()
            at += (_HEADER + size + 7) & ~7
            self._seen = at
