"""The flow tables, one per vNIC: made, swept, read, and handed to another host."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from serai.datapath.handoff import Flows, Handoff, follow, newer
from serai.datapath.idle import idle_class, idle_ns
from serai.datapath.layout import FLOW, FLOW_KEY
from serai.datapath.ledger import Ledger
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map, comparable, pick, together
from serai.datapath.metering import Metering
from serai.datapath.rows import rows
from serai.datapath.slots import Slots
from serai.datapath.tablepins import TablePins
from serai.datapath.told import Told
from serai.model.flow import IDLE_CLASSES, FlowRow, IdleSeconds
from serai.model.inventory import VnicId

_NS = 1_000_000_000
_ROOMY = 8
"""A table is looked at seldom while no more than one in so many places is taken."""


class FlowTables:
    """Every vNIC's flow table, and the flows that ended."""

    def __init__(
        self,
        outer: Map,
        slots: Slots,
        *,
        idle: Mapping[str, int] | None = None,
        remember: int = 65536,
        ended: Path | None = None,
        pins: Path | None = None,
        metering: Metering | None = None,
    ) -> None:
        """Use the gate's map of maps.

        Args:
            outer: the map ``flows``.
            slots: where each vNIC's table stands in it.
            idle: limits that differ from ``IdleSeconds``, by its names, in seconds.
            remember: how many ended flows are kept; beyond, the oldest go and are counted in ``forgotten``.
            ended: the file that keeps ended flows while no agent runs.
            pins: the directory, on a bpffs, where the tables are pinned for the next agent.
            metering: is told what happens to flows.
        """
        self._metering = metering or Metering()
        self._pins = TablePins(pins)
        self._outer = outer
        self._slots = slots
        limits = {name: limit.value for name, limit in IdleSeconds.__members__.items()} | dict(idle or {})
        self.idle_ns = np.array([limits[name] * _NS for name in IDLE_CLASSES], "<u8")
        """How long a flow may be silent, by its class (the place of its name in ``IDLE_CLASSES``)."""
        self._tables: dict[VnicId, Map] = {}
        self._ended = Ledger(ended, remember=remember)
        self._handed_over: set[VnicId] = set()
        self._due: dict[VnicId, int] = {}

    @property
    def forgotten(self) -> int:
        """Ended flows that were dropped before anybody read them."""
        return self._ended.forgotten

    def adopt(self) -> None:
        """Take over what an earlier agent left: the tables, and the flows that ended."""
        self._ended.load()
        slots, numbers = self._outer.dump()
        tables = dict(zip(slots.tolist(), numbers.tolist(), strict=True))
        for vnic, slot in self._slots.given.items():
            if slot in tables:
                self._tables[vnic] = self._pins.open(slot, tables[slot])
        self._pins.remove_others({slot for vnic, slot in self._slots.given.items() if vnic in self._tables})

    def table(self, vnic: VnicId) -> Map | None:
        """The flow table of ``vnic``, or None."""
        return self._tables.get(vnic)

    @property
    def vnics(self) -> Collection[VnicId]:
        """The vNICs that have tables."""
        return self._tables.keys()

    def tables(self) -> Iterator[tuple[VnicId, Array, Array]]:
        """Go through all tables, as they are now: vNIC, keys, flows."""
        for vnic, table in list(self._tables.items()):
            yield (vnic, *table.dump())

    def keep(self, quotas: Mapping[VnicId, int]) -> None:
        """Have a table for each vNIC, with room for so many flows. One that has another size is replaced.

        Raises:
            KernelError: there is no room for so many vNICs.
        """
        self._slots.give(quotas)
        fresh = {
            vnic: Map.hash("serai_flows", FLOW_KEY, FLOW, entries)
            for vnic, entries in quotas.items()
            if vnic not in self._tables or self._tables[vnic].capacity != entries
        }
        if not fresh:
            return
        before = {vnic: self._tables[vnic] for vnic in fresh if vnic in self._tables}
        for vnic, table in before.items():
            _add_newer(fresh[vnic], *table.dump())
        for vnic, table in fresh.items():
            self._pins.stage(self._slots.given[vnic], table)
        self._outer.update(  # in one batch: a single put into a map of maps waits for every processor
            np.array([self._slots.given[vnic] for vnic in fresh], self._outer.key),
            np.array([table.fd for table in fresh.values()], self._outer.value),
        )
        for vnic in fresh:
            self._pins.settle(self._slots.given[vnic])
        self._tables.update(fresh)
        for vnic, table in before.items():
            keys, flows = table.dump()
            _add_newer(fresh[vnic], keys, flows)  # what came meanwhile
            left = ~np.isin(comparable(keys), comparable(fresh[vnic].dump()[0]))
            self.end(np.full(int(left.sum()), vnic, "<u8"), keys[left], flows[left])  # what finds no room ends here

    def remove_others(self, vnics: Collection[VnicId]) -> None:
        """Remove the tables of all but ``vnics``; their flows have ended, unless they moved to another host."""
        now_ns = time.monotonic_ns()
        for vnic in [v for v in self._tables if v not in vnics]:
            table, meter = self._tables.pop(vnic), self._slots.meter(vnic)
            self._metering.removing(vnic, *table.dump(), meter, now_ns)
            self._outer.delete(np.array([self._slots.given[vnic]], self._outer.key))
            keys, flows = table.dump()
            meter = self._slots.meter(vnic)
            self._pins.remove(self._slots.given[vnic])
            self._slots.take_back(vnic)
            self._metering.removed(vnic, keys, flows, meter, now_ns)
            moved = vnic in self._handed_over
            self._handed_over.discard(vnic)
            self._due.pop(vnic, None)
            if not moved:
                self._ended.add(vnic, keys, flows)

    def add_newer(self, vnic: VnicId, keys: Array, flows: Array) -> int:
        """Add those flows of ``vnic`` that are not here yet, or were seen later than here; return how many."""
        return _add_newer(self._tables[vnic], keys, flows)

    def end(self, vnics: Array, keys: Array, flows: Array, *, told_by_gate: bool = False) -> None:
        """Remember flows that ended otherwise, each of its vNIC; perhaps because the gate said so."""
        self._metering.ended(vnics, keys, flows, time.monotonic_ns(), told_by_gate=told_by_gate)
        self._ended.add(vnics, keys, flows)

    def sweep(self, now_ns: int, *, full_only: bool = False) -> int:
        """Remove flows that are over, remember them, and return how many there were.

        With ``full_only`` tables are left alone of which no more than an eighth was taken when they were last looked at, or
        in which nothing can be over yet.

        Raises:
            OSError: the file that outlives the agent cannot be written; they are remembered in memory only.
        """
        ended = _Ended()
        due = [vnic for vnic, when in self._due.items() if when <= now_ns]
        for vnic in due if full_only else list(self._tables):
            ended.add(vnic, *self._take_over(vnic, now_ns)[0])
        return ended.remember(self._ended)

    def read(self, now_ns: int) -> Iterator[None]:
        """Sweep all tables, and tell the metering of what lives; stop between two, so that others can do something.

        Raises:
            OSError: as for ``sweep``.
        """
        ended = _Ended()
        for vnic in list(self._tables):
            if vnic in self._tables:  # it may have gone while somebody else did something
                over, lives = self._take_over(vnic, now_ns)
                ended.add(vnic, *over)
                self._metering.read(vnic, *lives, now_ns)
                yield
        ended.remember(self._ended)

    def _take_over(self, vnic: VnicId, now_ns: int) -> tuple[Flows, Flows]:
        """Take what is over out of a table; return that, and what is left."""
        keys, flows = self._tables[vnic].dump()
        left = self._left_ns(keys, flows, now_ns)
        over = left <= 0
        self._due.pop(vnic, None)
        if len(keys) * _ROOMY > self._tables[vnic].capacity:
            # None can be over before one of them is, or one that closes now.
            self._due[vnic] = now_ns + int(left[~over].min(initial=int(self.idle_ns.min())))
        if not over.any():
            return (keys[:0], flows[:0]), (keys, flows)
        lives = pick(keys, ~over), pick(flows, ~over)
        table = self._tables[vnic]
        self._metering.ending(vnic, pick(keys, over), pick(flows, over), now_ns)
        keys, flows = table.take(pick(keys, over))
        over = self._left_ns(keys, flows, now_ns) <= 0
        table.update(keys[~over], flows[~over])  # their ports began another connection just now
        self._metering.ended(np.full(int(over.sum()), vnic, "<u8"), keys[over], flows[over], now_ns)
        return (keys[over], flows[over]), _joined([lives, (keys[~over], flows[~over])])

    def _left_ns(self, keys: Array, flows: Array, now_ns: int) -> Array:
        """How long each may still be silent before it is over."""
        left: Array = self.idle_ns[idle_class(keys, flows)].astype("i8") - idle_ns(flows, now_ns)
        return left

    def rows(self, now_ns: int) -> Iterator[FlowRow]:
        """Go through all flows: those that live and those that ended."""
        for vnic, table in self._tables.items():
            yield from rows(vnic, *table.dump(), now_ns)
        for vnic, keys, flows in self._ended.by_vnic():
            yield from rows(vnic, keys, flows, now_ns)

    def count(self) -> int:
        """How many flows live."""
        return sum(len(table.dump()[0]) for table in self._tables.values())

    def export(self, vnic: VnicId, now_ns: int, *, since_ns: int = 0) -> bytes:
        """Write down the flows of ``vnic`` that carried a packet since ``since_ns``.

        Raises:
            KeyError: there is no table for this vNIC here.
        """
        keys, flows = self.read_table(vnic, since_ns=since_ns)
        return msgspec.msgpack.encode(Handoff.of(vnic, keys, flows, now_ns))

    def read_table(self, vnic: VnicId, *, since_ns: int = 0) -> Flows:
        """Return the flows of ``vnic`` that carried a packet since ``since_ns``.

        Raises:
            KeyError: there is no table for this vNIC here.
        """
        keys, flows = self._tables[vnic].dump()
        recent = flows["last_ns"] >= since_ns
        return (keys, flows) if recent.all() else (keys[recent], flows[recent])

    def hand_over(self, vnic: VnicId) -> None:
        """Know that another host has taken the flows of ``vnic``: here they have not ended, they are there."""
        self._handed_over.add(vnic)
        if vnic in self._tables:
            self._metering.handed_over(vnic, *self._tables[vnic].dump(), time.monotonic_ns())

    def take(self, raw: bytes, now_ns: int) -> int:
        """Take over flows that ``export`` wrote on another host; return how many. See ``take_over``.

        Raises:
            ValueError: the bytes are not a handoff.
            KeyError: there is no table for this vNIC here.
        """
        return self.take_over(Handoff.read(raw), now_ns)[0]

    def take_over(self, handoff: Handoff, now_ns: int) -> tuple[int, Flows]:
        """Take over flows of another host; return how many, and those that were here just before.

        They are judged again at their next packet, whatever the other host thought of them. Flows that
        were seen here since are left alone.

        Raises:
            KeyError: there is no table for this vNIC here.
            KernelError: it is full.
        """
        table = self._tables[VnicId(handoff.vnic)]
        keys, flows = handoff.at(now_ns)
        here = table.dump()
        follow(keys, flows, *here)
        keys, flows = newer(keys, flows, *here, table.capacity)
        replaced = np.isin(comparable(here[0]), comparable(keys))
        old = here[0][replaced], here[1][replaced]
        self._metering.taking(handoff.vnic, keys, flows, old, now_ns)
        try:
            table.update(keys, flows)
        except KernelError:  # it has become full meanwhile: some are there, and their counters are not ours
            written = Told.of(*table.dump()).find(keys, flows["first_ns"]) >= 0
            keys, flows = keys[written], flows[written]
            replaced = np.isin(comparable(old[0]), comparable(keys))
            old = old[0][replaced], old[1][replaced]
            raise
        finally:
            self._metering.taken(handoff.vnic, keys, flows, old, now_ns)
        self._handed_over.discard(VnicId(handoff.vnic))
        return len(keys), here


def _add_newer(table: Map, keys: Array, flows: Array) -> int:
    """Those that are there already come first; of the others as many as there is room for."""
    keys, flows = newer(keys, flows, *table.dump(), table.capacity)
    table.update(keys, flows)
    return len(keys)


class _Ended:
    """Flows that one sweep found over: the ledger gets them at once, since it copies all that it has."""

    def __init__(self) -> None:
        self._vnics: list[Array] = []
        self._flows: list[Flows] = []

    def add(self, vnic: VnicId, keys: Array, flows: Array) -> None:
        if len(keys):
            self._vnics.append(np.full(len(keys), vnic, "<u8"))
            self._flows.append((keys, flows))

    def remember(self, ledger: Ledger) -> int:
        if self._vnics:
            ledger.add(np.concatenate(self._vnics), *_joined(self._flows))
        return sum(map(len, self._vnics))


def _joined(parts: Sequence[Flows]) -> Flows:
    keys, flows = zip(*parts, strict=True)
    return together(keys, FLOW_KEY), together(flows, FLOW)
