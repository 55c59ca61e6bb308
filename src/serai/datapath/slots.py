"""Gives every vNIC of the host a number from a small range: its place in the arrays that packets are counted in."""

from __future__ import annotations

import collections
import errno
from collections.abc import Collection, Mapping

import numpy as np

from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map
from serai.model.inventory import VnicId

UNKNOWN = 0
"""The slot of taps behind which no vNIC is known."""


class Slots:
    """Which vNIC has which slot, as the kernel keeps it for the next agent."""

    def __init__(self, slots: Map, meters: Map) -> None:
        """Use the gate's maps; what an earlier agent gave stays given."""
        self._map = slots
        self._meters = meters
        keys, values = slots.dump()
        self._given = dict(zip(map(VnicId, keys.tolist()), values.tolist(), strict=True))
        taken = {UNKNOWN, *self._given.values()}
        # First in, first out: a slot rests as long as possible before it serves another vNIC.
        self._free = collections.deque(slot for slot in range(meters.capacity) if slot not in taken)

    @property
    def given(self) -> Mapping[VnicId, int]:
        """The slots by vNIC."""
        return self._given

    def give(self, vnics: Collection[VnicId]) -> None:
        """Have a slot, with all counters at zero, for each of ``vnics`` that has none.

        Raises:
            KernelError: there are not enough; nothing has changed.
        """
        fresh = [vnic for vnic in vnics if vnic not in self._given]
        if len(fresh) > len(self._free):
            message = f"{len(self._given) + len(fresh)} vNICs are too many: this host has room for {self._meters.capacity - 1}"
            raise KernelError(errno.ENOSPC, message)
        if not fresh:
            return
        chosen = [self._free.popleft() for _ in fresh]
        slots = np.array(chosen, self._map.value)
        self._meters.update(slots, np.zeros(len(fresh), self._meters.value))
        self._map.update(np.array(fresh, self._map.key), slots)
        self._given.update(zip(fresh, chosen, strict=True))

    def take_back(self, vnic: VnicId) -> None:
        """Let another vNIC have the slot of ``vnic``, which no gate guards any more."""
        slot = self._given.pop(vnic, None)
        if slot is not None:
            self._map.delete(np.array([vnic], self._map.key))
            self._free.append(slot)

    def meter(self, vnic: VnicId) -> Array:
        """Return what was counted for ``vnic``: an array of one, or of none where it has no slot."""
        slot = self._given.get(vnic)
        found = self._meters.get(slot) if slot is not None else None
        return np.empty(0, self._meters.value) if found is None else found

    def meters(self) -> tuple[list[VnicId], Array]:
        """Return the vNICs that have slots, an unknown one first, and what was counted for each."""
        vnics = [VnicId(0), *self._given]
        _, all_meters = self._meters.dump()
        return vnics, all_meters[[UNKNOWN, *self._given.values()]]
