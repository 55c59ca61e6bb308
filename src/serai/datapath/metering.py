"""All that is told of one host's gates: flows, denials, drops, sightings; and what must outlive the agent for that.

Nothing is told twice or lost when the agent is killed. What was told is written down (``Metering.memory``) together with the records
that say so, in one step. What left the kernel since then stands in the diary. Where the two end, the kernel goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from serai.datapath.deltas import of_denials
from serai.datapath.diary import (
    AnyEntry,
    Denied,
    Diary,
    Ended,
    HandedOver,
    Removed,
    Taken,
    denials_of,
    flows_of,
    meter_of,
)
from serai.datapath.interval import DROP, SIGHTING, Interval
from serai.datapath.layout import DENIAL_KEY
from serai.datapath.maps import Array, pick, together
from serai.datapath.meter import Meter
from serai.datapath.replay import happened, same
from serai.datapath.tally import LOST, METERED, REASONS, SIGHTED, Tally, denial_counts, meter_counts, sighting_counts
from serai.datapath.told import TOLD

_FLOWS: Final = "flows"
_MOST: Final = (1 << 32) - 1
FORM: Final = 1
"""Of what is remembered, beside the layout: what has another is not understood."""

Memory = Sequence[tuple[str, int, Array]]
"""What must be remembered: names, numbers, and arrays that do not change any more."""
Remembered = Sequence[tuple[str, int, bytes | memoryview]]
"""The same, read again."""


class Kernel(Protocol):
    """What the kernel holds, for who must know whether the last thing was done."""

    def flows(self) -> Iterator[tuple[int, Array, Array]]:
        """All tables: vNIC, keys, flows."""

    def ended(self) -> Array:
        """The flows that the gate has ended, and of which nobody has heard yet (``ENDED_EVENT``)."""

    def vnics(self) -> Collection[int]:
        """The vNICs that have tables."""

    def denials(self) -> tuple[Array, Array]:
        """All records of denials."""

    def meters(self) -> tuple[Array, Array]:
        """The vNICs that have slots, and what was counted for each."""

    def sightings(self) -> Array:
        """What was seen of each kind, with the fields of ``SIGHTING_COLUMNS``; ``packets`` since the vNIC came."""


class Metering:
    """What is told of one host's gates. Until ``start`` nothing is, and nothing is remembered."""

    def __init__(self, diary: Diary | None = None, own: Callable[[int, Array], Array] | None = None) -> None:
        """Write into ``diary`` what an agent that is killed must still have told; ``own`` is as for ``Meter``."""
        self.on = False
        self._diary = diary
        self._meter = Meter(own) if own else Meter()
        self._denials = Tally(DENIAL_KEY, 2)
        self._drops = Tally(METERED, 2 * REASONS + len(LOST))
        self._sightings = Tally(SIGHTED, 1)
        self._new_drops: list[Array] = []
        self._new_sightings: list[Array] = []
        self._lost = np.zeros(len(LOST), "<u8")
        self._again: list[Ended] = []

    @property
    def trouble(self) -> str:
        """Why an agent that is killed now would not tell all; empty where it would."""
        return self._diary.trouble if self._diary else ""

    # A life

    def start(self, memory: Remembered | None, volume: int, kernel: Kernel, now_ns: int) -> None:
        """Go on from what was remembered, and what the diary has from ``volume`` on; None: tell nothing of what was before.

        Raises:
            ValueError: this is not what ``memory`` returned.
        """
        tables = {vnic: (keys, flows) for vnic, keys, flows in kernel.flows()}
        entries = list(self._diary.read(volume)) if self._diary and memory is not None else []
        if self._diary:
            self._diary.turn()
        self.on = True
        if memory is None:
            self._meter.clear()
            self._new_drops, self._new_sightings = [], []
            for vnic, (keys, flows) in tables.items():
                self._meter.adopt(vnic, keys, flows, now_ns)
            keys, values = kernel.denials()
            self._denials.restore(keys, denial_counts(values))
            self._drops.restore(*meter_counts(*kernel.meters()))
            self._sightings.restore(*sighting_counts(kernel.sightings()))
            return
        tallies = self._tallies()
        for name, number, raw in memory:
            if name == _FLOWS:
                self._meter.remember(number, np.frombuffer(raw, TOLD))
            elif name in tallies:
                rows = np.frombuffer(raw, tallies[name].row)
                tallies[name].restore(rows["key"], rows["counts"])
        for entry in happened(entries, tables, kernel.ended(), kernel.denials(), kernel.meters()[0].tolist()):
            self._apply(entry)
        self._again = [entry for entry in entries if isinstance(entry, Ended) and entry.told_by_gate]

    def memory(self) -> tuple[int, Memory]:
        """Return what must be remembered with the records that ``take`` has just returned, and the diary's volume after it."""
        volume = self._diary.turn() if self._diary else 0
        found = [(_FLOWS, vnic, rows) for vnic, rows in self._meter.written() if len(rows)]
        for name, tally in self._tallies().items():
            rows = np.zeros(len(tally.keys), tally.row)
            rows["key"], rows["counts"] = tally.keys, tally.counts
            found.append((name, 0, rows))
        return volume, found

    def remembered(self, volume: int) -> None:
        """Know that what ``memory`` returned is written down."""
        if self._diary:
            self._diary.forget(volume)

    def take(self, at: int, now_ns: int) -> Interval:
        """Return what is new, and begin another interval."""
        flows = self._meter.take(at, now_ns)
        drops, sightings = together(self._new_drops, DROP), together(self._new_sightings, SIGHTING)
        drops["at"] = sightings["at"] = at
        denials, ring = self._lost.tolist()
        made = Interval(
            flows=flows, drops=drops, sightings=sightings, ring=ring, denials=denials, forgotten=self._meter.forgotten
        )
        self._new_drops, self._new_sightings, self._meter.forgotten = [], [], 0
        self._lost = np.zeros(len(LOST), "<u8")
        return made

    # What happens

    def read(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """See ``Meter.read``."""
        if self.on:
            self._meter.read(vnic, keys, flows, now_ns)

    def ending(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """Know that flows are about to be taken out of the kernel."""
        self._note(Ended.of(np.full(len(keys), vnic, "<u8"), keys, flows, now_ns))

    def ended(self, vnics: Array, keys: Array, flows: Array, now_ns: int, *, told_by_gate: bool = False) -> None:
        """Tell the rest of flows that were; where the gate has told, perhaps to an agent that was killed before."""
        if not self.on:
            return
        if told_by_gate:
            for before in self._again:
                fresh = ~same(before, vnics, keys, flows)
                vnics, keys, flows = vnics[fresh], pick(keys, fresh), pick(flows, fresh)
            self._again = []
        self._note(Ended.of(vnics, keys, flows, now_ns, done=True, told_by_gate=told_by_gate))
        self._meter.ended(vnics, keys, flows, now_ns)

    def taking(self, vnic: int, keys: Array, flows: Array, here: tuple[Array, Array], now_ns: int) -> None:
        """Know that flows of another host are about to be written over those ``here``."""
        old_keys, old_flows = here
        self._note(
            Taken(
                now_ns=now_ns, vnic=vnic, keys=keys.tobytes(), flows=flows.tobytes(), old_keys=old_keys.tobytes(),
                old_flows=old_flows.tobytes(),
            )
        )  # fmt: skip

    def taken(self, vnic: int, keys: Array, flows: Array, here: tuple[Array, Array], now_ns: int) -> None:
        """See ``Meter.imported``."""
        if self.on:
            self._meter.imported(vnic, keys, flows, here, now_ns)

    def handed_over(self, vnic: int, keys: Array, flows: Array, now_ns: int) -> None:
        """See ``Meter.handed_over``."""
        if self.on:
            self._note(HandedOver(now_ns=now_ns, vnic=vnic, keys=keys.tobytes(), flows=flows.tobytes()))
            self._meter.handed_over(vnic, keys, flows, now_ns)

    def removing(self, vnic: int, keys: Array, flows: Array, meter: Array, now_ns: int) -> None:
        """Know that a vNIC's table and its counters (``METER``; none or one) are about to go."""
        self._note(Removed.of(vnic, keys, flows, meter, now_ns, done=False))

    def removed(self, vnic: int, keys: Array, flows: Array, meter: Array, now_ns: int) -> None:
        """Tell the rest of a vNIC that is gone."""
        if self.on:
            self._note(Removed.of(vnic, keys, flows, meter, now_ns, done=True))
            self._remove(vnic, keys, flows, meter, now_ns)

    def denying(self, keys: Array, values: Array, now_ns: int) -> None:
        """Know that records of denials are about to be taken out of the kernel."""
        if len(keys):
            self._note(Denied(now_ns=now_ns, keys=keys.tobytes(), values=values.tobytes()))

    def denied(self, keys: Array, values: Array, now_ns: int) -> None:
        """Tell the rest of records of denials that were."""
        if self.on and len(keys):
            self._note(Denied(now_ns=now_ns, keys=keys.tobytes(), values=values.tobytes(), done=True))
            self._deny(keys, values)

    def read_others(self, kernel: Kernel, now_ns: int) -> None:
        """Tell what is new of all but the flows that live."""
        if not self.on:
            return
        keys, values = kernel.denials()
        self._meter.add(of_denials(keys, values, self._denials.read(keys, denial_counts(values))))
        vnics, counts = meter_counts(*kernel.meters())
        self._drop(vnics, self._drops.read(vnics, counts))
        self.read_sightings(kernel.sightings())
        self._meter.read_others(kernel.vnics(), now_ns)

    def read_sightings(self, seen: Array) -> None:
        """Tell what is new of what was seen; see ``Kernel.sightings``."""
        if self.on:
            self._sight(seen, self._sightings.read(*sighting_counts(seen)))

    # How it is done

    def _note(self, entry: AnyEntry) -> None:
        if self.on and self._diary:
            self._diary.write(entry)

    def _apply(self, entry: AnyEntry) -> None:
        """Tell what happened before this agent was."""
        now_ns = entry.now_ns
        match entry:
            case Ended():
                self._meter.ended(np.frombuffer(entry.vnics, "<u8"), *flows_of(entry.keys, entry.flows), now_ns)
            case Removed():
                self._remove(entry.vnic, *flows_of(entry.keys, entry.flows), meter_of(entry.meter), now_ns)
            case Taken():
                here = flows_of(entry.old_keys, entry.old_flows)
                self._meter.imported(entry.vnic, *flows_of(entry.keys, entry.flows), here, now_ns)
            case HandedOver():
                self._meter.handed_over(entry.vnic, *flows_of(entry.keys, entry.flows), now_ns)
            case Denied():
                self._deny(*denials_of(entry.keys, entry.values))

    def _tallies(self) -> Mapping[str, Tally]:
        return {"denials": self._denials, "drops": self._drops, "sightings": self._sightings}

    def _deny(self, keys: Array, values: Array) -> None:
        self._meter.add(of_denials(keys, values, self._denials.last(keys, denial_counts(values))))

    def _remove(self, vnic: int, keys: Array, flows: Array, meter: Array, now_ns: int) -> None:
        self._meter.ended(np.full(len(keys), vnic, "<u8"), keys, flows, now_ns)
        vnics, counts = meter_counts(np.full(len(meter), vnic, "<u8"), meter)
        self._drop(vnics, self._drops.last(vnics, counts))

    def _drop(self, vnics: Array, counts: Array) -> None:
        self._lost = self._lost + counts[:, -len(LOST) :].sum(axis=0, dtype="<u8")
        drops = counts[:, : -len(LOST)].reshape(-1, 2, REASONS)
        which, directions, reasons = np.nonzero(drops)
        rows = np.zeros(len(which), DROP)
        rows["vnic"], rows["direction"], rows["reason"] = vnics["vnic"][which], directions, reasons
        rows["packets"] = drops[which, directions, reasons]
        self._new_drops.append(rows)

    def _sight(self, seen: Array, counts: Array) -> None:
        new = counts[:, 0] > 0
        rows = np.zeros(int(new.sum()), SIGHTING)
        for field in ("vnic", "kind", "direction", "address"):
            rows[field] = seen[field][new]
        rows["packets"] = np.minimum(counts[new, 0], _MOST)
        self._new_sightings.append(rows)
