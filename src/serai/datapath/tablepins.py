"""Pins of the flow tables: an agent without CAP_SYS_ADMIN cannot open a map by its number, but it can by a pin."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from serai.datapath.layout import FLOW, FLOW_KEY, Layout
from serai.datapath.libbpf import check, lib, object_id
from serai.datapath.maps import Map


class TablePins:
    """A directory on a bpffs with one pin a slot. Without one nothing is pinned, and tables are found by their numbers."""

    def __init__(self, directory: Path | None, flow: Layout = FLOW) -> None:
        """Use ``directory``, which is made with the first pin, for tables whose values look like ``flow``."""
        self._directory = directory
        self._flow = flow

    def open(self, slot: int, number: int) -> Map:
        """Open the table of a slot, which has this number in the kernel, and see to it that it is pinned.

        Raises:
            KernelError: it has no pin (an earlier version left it), and this program may not open it otherwise.
        """
        if self._directory is None:
            return Map.by_id(number, FLOW_KEY, self._flow)
        fresh = self._fresh(slot)
        for pin in (self._pin(slot), fresh):
            if pin.exists():
                found = Map.pinned(str(pin), FLOW_KEY, self._flow)
                if object_id(found.fd) == number:
                    if pin == fresh:  # what was about to be settled when the agent died
                        self.settle(slot)
                    return found
        found = Map.by_id(number, FLOW_KEY, self._flow)
        self.stage(slot, found)
        self.settle(slot)
        return found

    def stage(self, slot: int, table: Map) -> None:
        """Pin a table beside the one that the slot has, before it takes its place.

        Raises:
            KernelError: the kernel refuses.
        """
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        pin = self._fresh(slot)
        pin.unlink(missing_ok=True)
        check(lib.bpf_obj_pin(table.fd, str(pin).encode()), f"pin flow table {slot}")

    def settle(self, slot: int) -> None:
        """Let the pin of the table before go: the new one is in its place."""
        if self._directory is not None:
            self._fresh(slot).rename(self._pin(slot))

    def remove(self, slot: int) -> None:
        """Let the table of a slot go."""
        if self._directory is not None:
            self._pin(slot).unlink(missing_ok=True)

    def remove_others(self, slots: Collection[int]) -> None:
        """Let go of all but these slots' tables: what an agent that died in between has left takes memory."""
        if self._directory is None or not self._directory.is_dir():
            return
        kept = {self._pin(slot) for slot in slots}
        for pin in list(self._directory.iterdir()):
            if pin not in kept:
                pin.unlink()

    def _pin(self, slot: int) -> Path:
        assert self._directory is not None, "asked for by those who have one"  # noqa: S101
        return self._directory / str(slot)

    def _fresh(self, slot: int) -> Path:
        pin = self._pin(slot)
        return pin.with_name(f"{pin.name}-new")  # a bpffs takes no dots
