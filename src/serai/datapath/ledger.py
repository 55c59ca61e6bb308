"""Flows that ended, kept until somebody reads them: in memory, and in a file that outlives the agent."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.maps import Array
from serai.datapath.shares import latest_of_each
from serai.model.inventory import VnicId

_ENDED = np.dtype([("vnic", "<u8"), ("key", FLOW_KEY), ("flow", FLOW)])


class Ledger:
    """The most recent ended flows, oldest first; a vNIC that has many displaces its own."""

    def __init__(self, file: Path | None, *, remember: int) -> None:
        """Keep at most ``remember`` flows, and write them to ``file`` (None: in memory only) once ``load`` was called.

        The file is not forced to disk: it survives the death of the agent, not that of the host.
        """
        self._file = file
        self._remember = remember
        self._ended: Array = np.empty(0, _ENDED)
        self._written = 0
        self.forgotten = 0
        """Flows that were dropped because there were too many."""

    def load(self) -> None:
        """Read what an earlier agent wrote; a record that it could not finish is left out."""
        if self._file is None:
            return
        for other in self._file.parent.glob(f"{self._file.name.partition('.')[0]}.*"):
            if other != self._file:  # of an earlier boot, whose clock says nothing today, or of another layout
                other.unlink()
        if self._file.exists():
            raw = self._file.read_bytes()
            self._ended = np.frombuffer(raw[: len(raw) - len(raw) % _ENDED.itemsize], _ENDED).copy()
            self._forget()
            self._rewrite()

    def add(self, vnic: VnicId | Array, keys: Array, flows: Array) -> None:
        """Remember flows that ended, of one vNIC or of each one's own."""
        fresh = np.zeros(len(keys), _ENDED)
        fresh["vnic"], fresh["key"], fresh["flow"] = vnic, keys, flows
        self._ended = np.concatenate([self._ended, fresh], dtype=_ENDED)
        self._forget()
        if self._file is None:
            return
        self._written += len(fresh)
        if self._written > 2 * self._remember:
            self._rewrite()
        else:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._append(fresh.tobytes())

    def by_vnic(self) -> Iterator[tuple[VnicId, Array, Array]]:
        """Go through all that is remembered: keys and flows of each vNIC."""
        for vnic in np.unique(self._ended["vnic"]).tolist():
            mine = self._ended[self._ended["vnic"] == vnic]
            yield VnicId(vnic), mine["key"], mine["flow"]

    def _append(self, raw: bytes) -> None:
        if self._file is None:
            return
        with self._file.open("ab", buffering=0) as file:
            whole = file.tell()
            written = 0
            try:
                written = file.write(raw) or 0
            finally:
                if written != len(raw):  # half a record would shift all that follow
                    file.truncate(whole)
        if written != len(raw):
            raise OSError(errno.ENOSPC, f"{self._file} cannot be written: the disk is full")

    def _forget(self) -> None:
        kept = latest_of_each(self._ended["vnic"], self._remember)
        self.forgotten += len(kept) - int(kept.sum())
        self._ended = self._ended[kept]

    def _rewrite(self) -> None:
        if self._file is not None:
            fresh = self._file.with_name("new-" + self._file.name)
            fresh.write_bytes(self._ended.tobytes())
            fresh.replace(self._file)
            self._written = len(self._ended)
