"""A host without a kernel: its maps and its gates are played, and the agent may be killed before and after whatever it does to them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from serai.agent.telling import Teller, TellingConfig
from serai.datapath import frames
from serai.datapath.counted import Counted
from serai.datapath.denials import Denials
from serai.datapath.diary import Diary
from serai.datapath.flows import FlowTables
from serai.datapath.layout import (
    DENIAL,
    DENIAL_KEY,
    DROP_EVENT,
    ENDED_EVENT,
    EVENT_DROP,
    EVENT_ENDED,
    FLOW,
    FLOW_KEY,
    MAPS,
    METER,
)
from serai.datapath.maps import Map
from serai.datapath.metering import Metering
from serai.datapath.samples import Samples
from serai.datapath.sightings import Sightings
from serai.datapath.slots import Slots
from serai.model.inventory import VnicId
from serai.model.ruleset import Step

SECOND = 1_000_000_000
OUTWARDS, INWARDS = 0, 1


class Killed(BaseException):
    """What kill -9 does: whoever catches it can do no more harm."""


class Fate:
    """Counts the steps of an agent, and kills it at one of them."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.dead = False

    def step(self) -> None:
        if self.dead:
            raise Killed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.dead = True
                raise Killed

    def reborn(self) -> None:
        self.left, self.dead = None, False


class FakeMap:
    """A kernel map; what user space changes takes a step before, and one after."""

    numbers: dict[int, FakeMap] = {}

    def __init__(self, fate: Fate, key: Any, value: Any, capacity: int) -> None:
        self.fate, self.key, self.value, self.capacity = fate, np.dtype(key), np.dtype(value), capacity
        self.rows: dict[bytes, bytes] = {}
        self.fd = len(self.numbers) + 1
        self.numbers[self.fd] = self
        self.written: Callable[[bytes, bytes | None], None] = lambda _key, _value: None
        """Told of what user space writes (None: takes out)."""

    def array(self, key: int) -> bytes:
        return np.array([key], self.key).tobytes()

    def get(self, key: Any) -> Any:
        raw = self.rows.get(np.array([key], self.key).tobytes())
        return None if raw is None else np.frombuffer(raw, self.value).copy()

    def dump(self) -> tuple[Any, Any]:
        keys, values = b"".join(self.rows), b"".join(self.rows.values())
        return np.frombuffer(keys, self.key).copy(), np.frombuffer(values, self.value).copy()

    def update(self, keys: Any, values: Any) -> None:
        raw_keys, raw_values = self._raw(keys, self.key), self._raw(values, self.value)
        for key, value in zip(raw_keys, raw_values, strict=True):
            self.fate.step()
            self.written(key, value)
            self.rows[key] = value
        self.fate.step()

    def delete(self, keys: Any) -> None:
        for key in self._raw(keys, self.key):
            self.fate.step()
            if key in self.rows:
                self.written(key, None)
                del self.rows[key]
        self.fate.step()

    def take(self, keys: Any) -> tuple[Any, Any]:
        found = {}
        for key in self._raw(keys, self.key):
            self.fate.step()
            if key in self.rows:
                self.written(key, None)
                found[key] = self.rows.pop(key)
        self.fate.step()
        return np.frombuffer(b"".join(found), self.key).copy(), np.frombuffer(
            b"".join(found.values()), self.value
        ).copy()

    @staticmethod
    def _raw(records: Any, kind: Any) -> list[bytes]:
        raw = np.ascontiguousarray(records, kind).tobytes()
        return [raw[at : at + kind.itemsize] for at in range(0, len(raw), kind.itemsize)]


class FakeRing:
    """Flows that a gate has ended, until somebody says that they are done with."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.events: list[bytes] = []
        self.seen = 0

    def look(self) -> dict[int, Any]:
        self.seen = len(self.events)
        return {EVENT_ENDED: np.frombuffer(b"".join(self.events), ENDED_EVENT), EVENT_DROP: np.empty(0, DROP_EVENT)}

    def done(self) -> None:
        self.fate.step()
        del self.events[: self.seen]
        self.fate.step()

    def close(self) -> None:
        pass


@dataclasses.dataclass
class Truth:
    """What gates counted, wherever that was; and how often flows began and ended as records may say it."""

    traffic: collections.Counter[tuple[Any, ...]] = dataclasses.field(default_factory=collections.Counter)
    begun: int = 0
    ended: int = 0


class FakeHost:
    """A host whose agent lives, dies, and lives again."""

    def __init__(self, directory: Path, clock: Callable[[], int], truth: Truth, *, quota: int = 64) -> None:
        self.directory, self.clock, self.truth, self.quota = directory, clock, truth, quota
        self.fate = Fate()
        self.ring = FakeRing(self.fate)
        self.maps = {name: FakeMap(self.fate, *MAPS[name], 64) for name in ("slots", "flows", "denials", "sightings")}
        self.maps["denials"].capacity = 1024
        self.maps["meters"] = FakeMap(self.fate, *MAPS["meters"], 16)
        for slot in range(16):
            self.maps["meters"].rows[self.maps["meters"].array(slot)] = bytes(METER.itemsize)
        self.marks: dict[tuple[int, bytes], tuple[bool, bool]] = {}
        """By vNIC and key of a flow that is here: it began here; it lives on elsewhere."""
        self.importing = False
        self.maps["flows"].written = self._table_gone
        self.live()

    # The agent

    def live(self) -> None:
        self.fate.reborn()
        self.metering = Metering(Diary(self.directory))
        self.slots = Slots(self.maps["slots"], self.maps["meters"])  # type: ignore[arg-type]
        self.flows = FlowTables(self.maps["flows"], self.slots, metering=self.metering, remember=4096)  # type: ignore[arg-type]
        self.flows.adopt()
        self.denials = Denials(self.maps["denials"], metering=self.metering)  # type: ignore[arg-type]
        self.samples = Samples(self.ring, self.flows)  # type: ignore[arg-type]
        self.sightings = Sightings(self.maps["sightings"])  # type: ignore[arg-type]
        config = TellingConfig(directory=self.directory, seconds=10, most_bytes=1 << 30, boot="b")
        self.teller = Teller(self, config, wanted=lambda: True, ruleset=lambda: None)  # type: ignore[arg-type]
        self.teller.begin()

    def begin(self, memory: Any, volume: int) -> None:
        """As ``Gates.begin``."""
        self.metering.start(memory, volume, self.counted(), self.clock())
        self.samples.read()

    def counted(self) -> Counted:
        return Counted(
            tables=self.flows, slots=self.slots, records=self.denials, seen=self.sightings, ring=self.samples
        )

    def sweep(self) -> None:
        self.denials.sweep(self.clock())
        self.flows.sweep(self.clock())

    def read(self) -> Iterator[None]:
        """As ``Gates.read``."""
        self.samples.read()
        yield from self.flows.read(self.clock())
        self.metering.read_others(self.counted(), self.clock())

    def tell(self) -> None:
        for _ in self.read():
            pass
        job = self.teller._take()
        self.teller._written(job, *job.write(self.teller._spool))

    def guard(self, vnic: int) -> None:
        def made(_name: str, key: Any, value: Any, entries: int) -> FakeMap:
            return FakeMap(self.fate, key, value, entries)

        with mock.patch.object(Map, "hash", made):
            self.flows.keep(dict.fromkeys({*self.flows.vnics, VnicId(vnic)}, self.quota))

    def remove(self, vnic: int) -> None:
        self.samples.read()
        self.flows.remove_others(set(self.flows.vnics) - {VnicId(vnic)})

    def hand_over(self, vnic: int) -> None:
        self.samples.read()
        self.flows.hand_over(VnicId(vnic))
        for mark, (began, _) in list(self.marks.items()):
            if mark[0] == vnic:
                self.marks[mark] = began, True

    def take(self, vnic: int, raw: bytes) -> None:
        self.table(vnic)
        self.samples.read()
        self.importing = True
        try:
            self.flows.take(raw, self.clock())
        finally:
            self.importing = False

    # The gate

    def table(self, vnic: int) -> FakeMap | None:
        found: Any = self.flows.table(VnicId(vnic))
        if found is not None:
            found.written = lambda key, value: self._written(vnic, key, value)
        return found

    def packet(self, vnic: int, port: int, direction: int, packets: int) -> None:
        table = self.table(vnic)
        if table is None:
            return
        key = flow_key(port)
        if key not in table.rows and len(table.rows) >= table.capacity:
            return
        flow = np.zeros(1, FLOW)
        if key in table.rows:
            flow = np.frombuffer(table.rows[key], FLOW).copy()
        else:
            flow["first_ns"], flow["origin"], flow["step"], flow["staged_step"] = (
                self.clock(),
                direction,
                Step.ACCEPT,
                Step.ACCEPT,
            )
            self.truth.begun += 1
            self.marks[vnic, key] = True, False
        flow["last_ns"] = self.clock()
        flow["packets"][0, direction] += packets
        flow["bytes"][0, direction] += 100 * packets
        table.rows[key] = flow.tobytes()
        self.truth.traffic[vnic, port, direction] += packets

    def close(self, vnic: int, port: int) -> None:
        table = self.table(vnic)
        if table is not None and (raw := table.rows.pop(flow_key(port), None)) is not None:
            event = np.zeros(1, ENDED_EVENT)
            event["kind"], event["vnic"] = EVENT_ENDED, vnic
            event["key"], event["flow"] = np.frombuffer(flow_key(port), FLOW_KEY), np.frombuffer(raw, FLOW)
            self.ring.events.append(event.tobytes())
            self._over(vnic, flow_key(port))

    def deny(self, vnic: int, port: int, packets: int) -> None:
        slot = self.slots.given.get(VnicId(vnic))
        if slot is None:
            return
        denials, meters = self.maps["denials"], self.maps["meters"]
        key = np.zeros(1, DENIAL_KEY)
        key["vnic"], key["port"], key["reason"], key["protocol"] = vnic, port, 10, 17
        denial = np.frombuffer(denials.rows.get(key.tobytes(), bytes(DENIAL.itemsize)), DENIAL).copy()
        denial["packets"] += packets
        denial["bytes"] += 60 * packets
        denial["last_ns"] = self.clock()
        denials.rows[key.tobytes()] = denial.tobytes()
        meter = np.frombuffer(meters.rows[meters.array(slot)], METER).copy()
        meter["drops"][0, 0, 10] += packets
        meters.rows[meters.array(slot)] = meter.tobytes()
        self.truth.traffic["denied", vnic, port] += packets
        self.truth.traffic["dropped", vnic] += packets

    def _written(self, vnic: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._over(vnic, key)
        elif self.importing:
            began, gone = self.marks.get((vnic, key), (False, True))
            if began and not gone:
                self.truth.ended += 1
            self.marks[vnic, key] = False, False

    def _over(self, vnic: int, key: bytes) -> None:
        _, gone = self.marks.pop((vnic, key), (False, True))
        if not gone:
            self.truth.ended += 1

    def _table_gone(self, slot: bytes, value: bytes | None) -> None:
        """A table goes with all its flows."""
        for vnic, number in self.slots.given.items():
            if value is None and number == int.from_bytes(slot, "little"):
                for owner, key in [mark for mark in self.marks if mark[0] == vnic]:
                    self._over(owner, key)


def flow_key(port: int) -> bytes:
    key = np.zeros(1, FLOW_KEY)
    key["local_port"], key["remote_port"], key["protocol"] = port, 443, 17
    return key.tobytes()


@contextlib.contextmanager
def played(monkeypatch: Any, clock: Callable[[], int], fates: Callable[[], list[Fate]]) -> Iterator[None]:
    """Have no kernel beneath, and a step of its own for everything that is done to files."""
    FakeMap.numbers = {}
    monkeypatch.setattr("time.monotonic_ns", clock)
    monkeypatch.setattr("serai.datapath.maps.Map.by_id", lambda number, *_: FakeMap.numbers[number])

    def step() -> None:
        for fate in fates():
            if fate.left is not None or fate.dead:
                fate.step()

    for name in ("rename", "replace", "unlink", "write_bytes"):
        real = getattr(Path, name)

        def stepped(self: Path, *arguments: Any, real: Any = real, **options: Any) -> Any:
            step()
            made = real(self, *arguments, **options)
            step()
            return made

        monkeypatch.setattr(Path, name, stepped)
    real_write = frames.write

    def write(file: Any, *parts: Any) -> None:
        step()
        if any(fate.left == 0 for fate in fates()):  # it dies in the middle of it
            file.write(b"\7\0\0\0half")
        step()
        real_write(file, *parts)
        file.flush()
        step()

    monkeypatch.setattr(frames, "write", write)
    yield
