"""What is told of real gates: their flows, denials and drops; how often tables are looked at; flows that move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GateUnderTest
from frames import SYN, tcp
from test_flows import (
    EVERYTHING,
    IN,
    ONE,
    OUT,
    PATH,
    SECOND,
    TWO,
    answer,
    into,
    later,
    out,
    records,
    retold,
    vnic,
    world,
    write,
)  # fmt: skip

from serai.agent.telling import Teller, TellingConfig
from serai.datapath.attach import Attacher
from serai.datapath.flows import FlowTables
from serai.datapath.gates import Gates
from serai.datapath.maps import together
from serai.datapath.metering import Metering
from serai.datapath.object import GateObject
from serai.datapath.pending import RECORD
from serai.model.address import pack
from serai.model.flow_record import Event, Verdict
from serai.model.reasons import Reason
from serai.wire.records import decode
from serai.wire.remote import Records

pytestmark = pytest.mark.kernel

ROOM = 256


class Counting(FlowTables):
    """Says which tables are looked at."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.looked: list[int] = []

    def _take_over(self, vnic: Any, now_ns: int) -> Any:
        self.looked.append(vnic)
        return super()._take_over(vnic, now_ns)


@pytest.fixture
def tables(gate: GateUnderTest) -> Iterator[Counting]:
    """Two tables of which nothing was told yet."""
    metering = Metering()
    metering.on = True
    made = Counting(gate.object.maps["flows"], gate.gates._slots, metering=metering)
    made.keep({ONE: ROOM, TWO: ROOM})
    yield made
    made.remove_others(set())


def interval(tables: FlowTables, now: int) -> Any:
    for _ in tables.read(now):
        pass
    return together(tables._metering.take(1_700_000_000, now).flows, RECORD)


def test_only_crowded_tables_are_looked_at_between_two_readings(tables: Counting) -> None:
    now = 10**6 * SECOND
    write(tables, ONE, *records(ROOM // 8, last_ns=now))
    write(tables, TWO, *records(ROOM // 8 + 1, last_ns=now))
    interval(tables, now)
    tables.looked = []
    tables.sweep(now + 9 * SECOND, full_only=True)
    assert tables.looked == [], "nothing can be over yet"
    tables.sweep(now + 10 * SECOND, full_only=True)
    assert tables.looked == [TWO], "what has just closed could be"
    table = tables.table(TWO)
    assert table is not None
    table.delete(table.dump()[0][:2])
    tables.sweep(now + 20 * SECOND, full_only=True)
    tables.looked = []
    tables.sweep(now + 99 * SECOND, full_only=True)
    assert tables.looked == [], "it is not crowded any more"
    interval(tables, now + 100 * SECOND)
    assert tables.looked == [ONE, TWO]


def test_a_crowded_table_is_swept_as_soon_as_something_is_over(tables: Counting) -> None:
    now = 10**6 * SECOND
    write(tables, ONE, *records(ROOM // 2, last_ns=now))
    write(tables, ONE, *records(ROOM // 4, last_ns=now - 177 * SECOND))  # of the same ones
    interval(tables, now)
    assert tables.sweep(now + 2 * SECOND, full_only=True) == 0
    assert tables.sweep(now + 3 * SECOND, full_only=True) == ROOM // 4


def test_one_dump_serves_the_sweep_and_the_meter(tables: Counting) -> None:
    now = 10**6 * SECOND
    write(tables, ONE, *records(10, last_ns=now, first_ns=now, packets=(1, 0)))
    write(tables, ONE, *records(5, start=10, last_ns=now - 180 * SECOND, packets=(3, 0)))
    told = interval(tables, now)
    assert (
        sorted(zip(told["event"].tolist(), told["packets_out"].tolist(), strict=True)) == [(1, 1)] * 10 + [(3, 3)] * 5
    )
    assert len(interval(tables, now + SECOND)) == 0


def test_flows_that_are_taken_over_are_told_from_there_on(tables: Counting) -> None:
    """ONE is the source, TWO the destination."""
    now = time.monotonic_ns()
    write(tables, ONE, *records(3, last_ns=now, first_ns=now - SECOND, packets=(10, 5)))
    write(tables, TWO, *records(1, last_ns=now - SECOND, first_ns=now - SECOND, packets=(2, 0)))
    assert tables.take(retold(tables.export(ONE, now), vnic=TWO), now) == 3
    told = interval(tables, now)
    assert sum(told["packets_out"]) == 3 * 10 + 2
    assert sum(told["connections"]) == 4
    mine = told[told["vnic"] == TWO]
    assert (mine["event"].tolist(), mine["packets_out"].tolist()) == ([Event.BEGINS | Event.ENDS], [2]), (
        "both saw it begin"
    )
    table = tables.table(TWO)
    assert table is not None
    keys, flows = table.dump()
    flows["packets"] += np.uint64(1)
    table.update(keys, flows)
    write(tables, ONE, *records(3, last_ns=now + SECOND, first_ns=now - SECOND, packets=(11, 5)))
    assert tables.take(retold(tables.export(ONE, now + SECOND), vnic=TWO), now + SECOND) == 3
    told = interval(tables, now + SECOND)
    assert [(row["vnic"], row["packets_out"], row["packets_in"]) for row in sorted(told, key=lambda r: r["vnic"])] == [
        (ONE, 1, 0)] * 3 + [(TWO, 1, 1)] * 3  # fmt: skip
    assert not told["event"].any()
    tables.hand_over(ONE)
    tables.remove_others({TWO})
    tables.remove_others(set())
    told = interval(tables, now + 2 * SECOND)
    assert told["vnic"].tolist() == [TWO] * 3, "the source says nothing of their ends"
    assert (told["event"] == Event.ENDS).all()


def test_a_table_of_another_size_changes_nothing(tables: Counting) -> None:
    now = 10**6 * SECOND
    write(tables, ONE, *records(100, last_ns=now, packets=(1, 0)))
    assert sum(interval(tables, now)["packets_out"]) == 100
    tables.keep({ONE: 64, TWO: ROOM})
    told = interval(tables, now + SECOND)
    assert (told["event"] == Event.ENDS).all()
    assert (len(told), sum(told["packets_out"])) == (36, 0)


class Agent:
    """The metered half of one, over a gate in the kernel."""

    def __init__(self, loaded: GateObject, directory: Path) -> None:
        self.gates = Gates(loaded, Attacher(Path("/nonexistent"), {}), flow_quota=64, flow_rate=0, records=directory)
        self.gates.flows.adopt()
        config = TellingConfig(directory=directory, seconds=10, most_bytes=1 << 24, boot="b")
        self.teller = Teller(self.gates, config, wanted=lambda: True, ruleset=lambda: None)
        self.teller.begin()

    def told(self) -> list[dict[str, Any]]:
        """What is new."""
        last = self.teller._spool.name, self.teller._spool.number
        for _ in self.gates.read():
            pass
        job = self.teller._take()
        self.teller._written(job, *job.write(self.teller._spool))
        batch = self.teller.after(last)
        assert batch is not None
        self.batch: Records = batch
        return rows(batch)


def rows(batch: Records) -> list[dict[str, Any]]:
    from serai.model.flow_record import FLOW_COLUMNS  # noqa: PLC0415

    return decode(batch.flows, FLOW_COLUMNS, most_rows=4096, most_bytes=1 << 22).to_pylist()  # type: ignore[no-any-return]


@pytest.fixture
def agent(gate: GateUnderTest, tmp_path: Path) -> Agent:
    made = Agent(gate.object, tmp_path)
    gate.gates, gate.flows = made.gates, made.gates.flows
    gate.guard(world(*EVERYTHING), PATH)
    return made


def test_a_conversation_is_told_as_the_gate_saw_it(gate: GateUnderTest, agent: Agent) -> None:
    for direction, frame in ((OUT, out(tcp(1, 443, SYN))), (IN, into(answer(443, 1)))):
        assert gate.send(direction, frame).passed
    (row,) = agent.told()
    assert (row["vnic"], row["event"], row["connections"]) == (vnic(gate), Event.BEGINS, 1)
    assert (row["local"], row["remote"]) == tuple(pack_text(end) for end in ("10.0.0.1", "10.0.0.2"))
    assert (row["packets_out"], row["packets_in"], row["verdict"]) == (1, 1, Verdict.ACCEPTED)
    assert row["rtt_us"] > 0
    assert agent.told() == []
    assert gate.send(OUT, out(later(1, 443))).passed
    (row,) = agent.told()
    assert (row["packets_out"], row["packets_in"], row["event"], row["rtt_us"]) == (1, 0, 0, 0)


def pack_text(address: str) -> bytes:
    from ipaddress import IPv4Address  # noqa: PLC0415

    return pack(IPv4Address(address))


def test_a_port_that_begins_anew_ends_what_was_before(gate: GateUnderTest, agent: Agent) -> None:
    gate.send(OUT, out(tcp(1, 443, SYN)))
    gate.send(IN, into(tcp(443, 1, 0x14, seq=0, ack=2)))
    assert gate.send(OUT, out(tcp(1, 443, SYN, seq=77))).passed
    told = sorted((row["event"], row["packets_out"], row["refused"]) for row in agent.told())
    assert told == [(Event.BEGINS, 1, 0), (Event.BEGINS | Event.ENDS, 1, 1)]


def test_denials_are_told_once_wherever_they_are_swept_to(gate: GateUnderTest, agent: Agent) -> None:
    for _ in range(3):
        assert gate.send(OUT, out(tcp(1, 80, SYN))).reason is Reason.DENIED
    (row,) = agent.told()
    assert (row["packets_out"], row["verdict"], row["reason"], row["service"]) == (3, Verdict.DENIED, Reason.DENIED, 80)
    gate.send(OUT, out(tcp(1, 80, SYN)))
    agent.gates.denials.sweep(time.monotonic_ns() + 31 * SECOND)
    gate.send(OUT, out(tcp(1, 80, SYN)))
    assert [row["packets_out"] for row in agent.told()] == [1, 1]
    assert agent.told() == []


def test_the_next_agent_goes_on_where_the_one_before_was_killed(
    gate: GateUnderTest, agent: Agent, tmp_path: Path
) -> None:
    gate.send(OUT, out(tcp(1, 443, SYN)))
    gate.send(OUT, out(tcp(1, 80, SYN)))
    assert sum(row["packets_out"] for row in agent.told()) == 2
    gate.send(OUT, out(tcp(1, 443, SYN)))
    gate.send(OUT, out(tcp(2, 443, SYN)))
    agent.gates.denials.sweep(time.monotonic_ns() + 31 * SECOND)
    agent.gates.flows.sweep(time.monotonic_ns() + 61 * SECOND)
    again = Agent(gate.object, tmp_path)
    gate.gates, gate.flows = again.gates, again.gates.flows
    last = again.teller._spool.number
    (batch,) = [b for b in [again.teller.after((again.teller._spool.name, last - 1))] if b]
    assert sorted((row["local_port"], row["packets_out"], row["event"]) for row in rows(batch)) == [
        (1, 1, Event.ENDS), (2, 1, Event.BEGINS | Event.ENDS),
    ]  # fmt: skip
    assert again.told() == []


def test_drops_and_sightings_are_told_too(gate: GateUnderTest, agent: Agent) -> None:
    from serai.model.flow_record import DROP_COLUMNS  # noqa: PLC0415

    agent.told()
    for _ in range(4):
        gate.send(OUT, out(tcp(1, 80, SYN)))
    agent.told()
    drops = decode(agent.batch.drops, DROP_COLUMNS, most_rows=99, most_bytes=1 << 20).to_pylist()
    assert [(row["vnic"], row["direction"], row["reason"], row["packets"]) for row in drops] == [
        (vnic(gate), 0, Reason.DENIED, 4)
    ]
    agent.told()
    assert agent.batch.drops == b""
