"""Whatever happens to a host, its VMs and its agent: the sums of what is told are what gates counted."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_host import SECOND, FakeHost, Killed, Truth, played
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from serai.datapath import meter
from serai.model.flow_record import DROP_COLUMNS, FLOW_COLUMNS, Event, Verdict
from serai.wire.records import decode
from serai.wire.remote import Records

VNICS = (1, 2)
hosts = st.integers(0, 1)
vnics = st.sampled_from(VNICS)
ports = st.integers(1, 3)
STEPS = st.one_of(
    st.tuples(st.just("packet"), hosts, vnics, ports, st.integers(0, 1), st.integers(1, 9)),
    st.tuples(st.just("packet"), hosts, vnics, ports, st.integers(0, 1), st.integers(1, 9)),
    st.tuples(st.sampled_from(["close", "reuse"]), hosts, vnics, ports),
    st.tuples(st.just("deny"), hosts, vnics, ports, st.integers(1, 9)),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 31, 200])),
    st.tuples(st.sampled_from(["sweep", "listen", "tell", "tell", "restart"]), hosts),
    st.tuples(st.sampled_from(["guard", "remove", "copy", "hand over", "move"]), hosts, vnics),
    st.tuples(st.just("kill"), hosts, st.integers(0, 40), st.integers(0, 40)),
)


class Scene:
    """Two hosts, and a clock for both."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000 * SECOND
        self.truth = Truth()
        self.hosts: list[FakeHost] = []
        self.hosts += [FakeHost(directory / name, self.clock, self.truth) for name in "ab"]
        self.kills: dict[int, list[int]] = {0: [], 1: []}
        for place in (0, 1):
            for vnic in VNICS:
                self.hosts[place].guard(vnic)

    def clock(self) -> int:
        self.now += 1000  # no two things happen at once
        return self.now

    def do(self, place: int, work: Callable[[FakeHost], Any]) -> Any:
        """Have an agent do something; one that is killed over it is started again, and asked again."""
        host = self.hosts[place]
        while True:
            try:
                if host.fate.dead:
                    host.live()
                if self.kills[place]:
                    host.fate.left = self.kills[place].pop()
                made = work(host)
                host.fate.left = None
            except Killed:
                host.fate.reborn()
                host.fate.left = self.kills[place].pop() if self.kills[place] else None
                try:
                    host.live()
                except Killed:
                    continue
            else:
                return made

    def step(self, what: str, *rest: Any) -> None:
        place = rest[0]
        host = self.hosts[place] if place < 2 else self.hosts[0]
        match what:
            case "packet":
                host.packet(*rest[1:])
            case "close":
                host.close(*rest[1:])
            case "reuse":
                host.close(*rest[1:])
                host.packet(*rest[1:], 0, 2)
            case "deny":
                host.deny(*rest[1:])
            case "wait":
                self.now += place * SECOND
            case "kill":
                self.kills[place] = list(rest[1:])
            case "restart":
                self.do(place, FakeHost.live)
            case "sweep" | "tell":
                self.do(place, lambda host: getattr(host, what)())
            case "listen":
                self.do(place, lambda host: host.samples.read())
            case "guard" | "remove":
                self.do(place, lambda host: getattr(host, what)(rest[1]))
            case "copy":
                self.copy(place, rest[1])
            case "hand over":
                if host.table(rest[1]) is not None and self.hosts[1 - place].table(rest[1]) is not None:
                    self.copy(place, rest[1])
                    self.do(place, lambda host: host.hand_over(rest[1]))
            case "move":
                self.step("guard", 1 - place, rest[1])
                self.step("hand over", place, rest[1])
                self.step("remove", place, rest[1])

    def copy(self, place: int, vnic: int) -> None:
        origin, to = self.hosts[place], self.hosts[1 - place]
        if origin.table(vnic) is not None and to.table(vnic) is not None:
            raw = origin.flows.export(vnic, self.clock())  # type: ignore[arg-type]
            self.do(1 - place, lambda host: host.take(vnic, raw))

    def finish(self) -> None:
        for place in (0, 1):
            self.kills[place] = []
            for vnic in VNICS:
                self.do(place, lambda host, vnic=vnic: host.remove(vnic))
            for _ in range(3):
                self.now += 10 * SECOND
                self.do(place, lambda host: host.denials.sweep(self.clock() + 1000 * SECOND))
                self.do(place, lambda host: host.samples.read())
                self.do(place, FakeHost.tell)

    def batches(self) -> Iterator[Records]:
        for host in self.hosts:
            last: tuple[str, int] | None = None
            while (batch := host.teller.after(last)) is not None:
                last = batch.spool, batch.number
                yield batch


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Scene]]:
    scenes: list[Scene] = []
    monkeypatch.setattr(meter, "_AT_ONCE", 2)  # a table is looked at in several steps
    with played(
        monkeypatch, lambda: scenes[-1].clock() if scenes else 0, lambda: [h.fate for s in scenes[-1:] for h in s.hosts]
    ):
        yield scenes


def new(world: list[Scene], directory: Path) -> Scene:
    made = Scene.__new__(Scene)
    world.append(made)
    made.hosts, made.now = [], 0
    made.__init__(directory / str(len(world)))  # type: ignore[misc]
    return made


def check(scene: Scene) -> None:
    told: collections.Counter[tuple[Any, ...]] = collections.Counter()
    begun = ended = connections = 0
    seen = set()
    for batch in scene.batches():
        assert (batch.spool, batch.number) not in seen
        seen.add((batch.spool, batch.number))
        assert batch.lost.forgotten == batch.lost.spool == 0
        for row in decode(batch.flows, FLOW_COLUMNS, most_rows=4096, most_bytes=1 << 22).to_pylist():
            if row["verdict"] == Verdict.DENIED:
                told["denied", row["vnic"], row["service"]] += row["packets_out"]
                continue
            told[row["vnic"], row["local_port"], 0] += row["packets_out"]
            told[row["vnic"], row["local_port"], 1] += row["packets_in"]
            assert (row["bytes_out"], row["bytes_in"]) == (100 * row["packets_out"], 100 * row["packets_in"])
            begun += bool(row["event"] & Event.BEGINS)
            ended += bool(row["event"] & Event.ENDS)
            connections += row["connections"]
        for row in decode(batch.drops, DROP_COLUMNS, most_rows=4096, most_bytes=1 << 22).to_pylist():
            told["dropped", row["vnic"]] += row["packets"]
    assert +told == +scene.truth.traffic
    assert (begun, connections, ended) == (scene.truth.begun, scene.truth.begun, scene.truth.ended)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, max_size=40))
def test_what_is_told_is_what_was_counted(world: list[Scene], tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    scene = new(world, tmp_path)
    note(f"steps: {steps!r}")
    for what in steps:
        scene.step(*what)
    scene.finish()
    check(scene)
