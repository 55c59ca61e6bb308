from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bench.flowtraffic import ROWS, SLOT_SECONDS, Answers, Edge, Population, records
from serai.analysis.columns import addresses
from serai.analysis.register import Register
from serai.model.address import unpack
from serai.model.flow_record import FLOW_COLUMNS, NAMED_COLUMNS, Kind

START = 1_760_052_600  # half past an hour
END = START + 3 * 3600
COUNT = 500_000
SUMS = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(vms=1500, tenants=12, hosts=40, clients=3000, seed=3)


@pytest.fixture(scope="module")
def told(population: Population) -> tuple[pa.Table, Answers]:
    windows = [(START + 600, START + 1200), (END - 100, END)]
    answers = Answers(population, START, END, windows=windows)
    tables = list(records(population, START, END, COUNT, np.random.default_rng(7), answers=answers))
    assert [table.num_rows for table in tables] == [ROWS, ROWS, COUNT - 2 * ROWS]
    return pa.concat_tables(tables), answers


def column(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy()


def where(table: pa.Table, which: Any) -> pa.Table:
    return table.filter(pa.array(which))


def echoes(table: pa.Table) -> Any:
    return (column(table, "direction") == 1) & (column(table, "peer") != 0) & (column(table, "verdict") == 0)


def grouped(table: pa.Table, *keys: str) -> pa.Table:
    found = table.group_by(list(keys)).aggregate([(name, "sum") for name in SUMS])
    return found.rename_columns([*keys, *SUMS]).sort_by([(key, "ascending") for key in keys])


def same(one: pa.Table, other: pa.Table, *keys: str) -> bool:
    order = [(key, "ascending") for key in keys]
    return bool(one.sort_by(order).to_pylist() == other.sort_by(order).to_pylist()) and one.num_rows > 0


def steps(table: pa.Table, seconds: int) -> Any:
    return column(table, "at") // seconds * seconds


# What is told


def test_the_columns_are_those_of_the_store(told: tuple[pa.Table, Answers]) -> None:
    table, _ = told
    assert table.column_names == [*FLOW_COLUMNS, *NAMED_COLUMNS]
    for name, each in FLOW_COLUMNS.items():
        expected = pa.binary(16) if each.kind is Kind.ADDRESS else getattr(pa, each.kind.name.lower())()
        assert table.schema.field(name).type == expected, name
    assert {table.schema.field(name).type for name in ("host", "tenant", "network")} == {
        pa.dictionary(pa.int32(), pa.string())
    }
    assert (table.schema.field("vm").type, table.schema.field("abroad").type) == (pa.uint64(), pa.uint8())


def test_time_goes_on_and_hosts_tell_all_of_an_interval_at_once(told: tuple[pa.Table, Answers]) -> None:
    table, _ = told
    at = column(table, "at").astype("i8")
    assert at.min() > START
    assert at.max() < END
    assert (np.diff(at) >= 0).all()
    assert (at % SLOT_SECONDS != 0).all(), "on no border between steps"
    late = (
        table.append_column("late", pa.array(at % SLOT_SECONDS))
        .group_by("host")
        .aggregate([("late", "count_distinct")])
    )
    assert set(late["late_count_distinct"].to_pylist()) == {1}


def test_names_are_those_that_the_inventory_gives(told: tuple[pa.Table, Answers], population: Population) -> None:
    table = told[0].slice(100_000, 50_000).combine_chunks()
    found = Register.of(population.machines()).find(column(table, "vnic"), addresses(table, "remote"))
    denied = column(table, "verdict") == 1
    for name in ("vm", "peer", "abroad"):
        assert (column(table, name) == getattr(found, name)).all(), name
    assert table["tenant"].to_pylist() == [found.tenants[place] for place in found.tenant]
    assert table["network"].to_pylist() == [found.networks[place] for place in found.network]
    hosts = {vnic.id: vm.host for vm in population.machines().values() for vnic in vm.vnics}
    assert table["host"].to_pylist() == [hosts[number] for number in table["vnic"].to_pylist()]
    own = {vnic.id: vnic.addresses for vm in population.machines().values() for vnic in vm.vnics}
    for row, drop in zip(table.slice(0, 3000).to_pylist(), denied, strict=False):
        local = unpack(row["local"])
        assert (str(local) == "::") if drop else (local in own[row["vnic"]])


def test_numbers_have_rows_that_tell_their_names(told: tuple[pa.Table, Answers], population: Population) -> None:
    table, _ = told
    for name, key, columns in (
        ("endpoints", "number", ("vm", "peer")),
        ("vnics", "vnic", ("vnic",)),
        ("rules", "number", ("rule",)),
    ):
        known = set(getattr(population, name)()[key].to_pylist())
        for each in columns:
            assert set(np.unique(column(table, each)).tolist()) - {0} <= known


def test_both_ends_of_a_conversation_tell_it_in_the_same_interval(told: tuple[pa.Table, Answers]) -> None:
    table = told[0]
    answered = (column(table, "packets_out") > 0) & (column(table, "packets_in") > 0)
    both = where(table, answered & (column(table, "peer") != 0) & (column(table, "verdict") != 1))
    sides: list[list[tuple[Any, ...]]] = [[], []]
    for row in both.slice(0, 60_000).to_pylist():
        ends = [(row["vm"], row["local"], row["local_port"]), (row["peer"], row["remote"], row["remote_port"])]
        counted = [(row["packets_out"], row["bytes_out"]), (row["packets_in"], row["bytes_in"])]
        if row["direction"]:
            ends.reverse()
            counted.reverse()
        slot = row["at"] // SLOT_SECONDS
        sides[row["direction"]].append((slot, row["protocol"], row["service"], row["event"], *ends, *counted))
    last = max(each[0] for each in sides[0])  # which is cut off
    one, other = (sorted(each for each in side if each[0] < last) for side in sides)
    assert one == other
    assert len(one) > 20_000


def test_it_looks_like_a_data_center(told: tuple[pa.Table, Answers]) -> None:
    table, answers = told

    def share(which: Any) -> float:
        return float(which.mean())

    verdict, protocol, event, reason = (column(table, name) for name in ("verdict", "protocol", "event", "reason"))
    assert 0.02 < share(verdict == 1) < 0.05
    assert (reason[verdict == 0] == 0).all()
    assert (reason[verdict != 0] > 0).all()
    assert len(np.unique(reason)) >= 5
    assert (event[verdict == 1] == 0).all()
    assert share(event == 0) > 0.2, "long-lived"
    assert 0.05 < share(protocol == 17) < 0.4
    assert share((protocol == 1) | (protocol == 58)) > 0.003
    assert 0.1 < share(column(table, "peer") == 0) < 0.4
    assert 0.02 < share(column(table, "abroad") == 1) < 0.4
    assert ((column(table, "connections") == 1) == (event % 2 == 1)).all()
    rtt = column(table, "rtt_us")
    assert (rtt[(protocol != 6) | (event % 2 == 0)] == 0).all()
    assert 50 < np.median(rtt[rtt > 0]) < 5000
    assert (column(table, "idle_ms") <= column(table, "age_ms")).all()
    everything = answers.by_vm()
    sent = np.sort(column(everything, "connections"))[::-1]
    assert sent[:50].sum() > 0.2 * sent.sum(), "few are busy"
    ipv6 = np.array([raw[:12] != bytes(10) + b"\xff\xff" for raw in table["remote"].slice(0, 5000).to_pylist()])
    assert 0.01 < share(ipv6) < 0.5
    assert share(column(table, "refused") == 1) > 0.002
    assert share(column(table, "syn_repeats") > 0) > 0.002


def test_somebody_scans_and_somebody_is_flooded(told: tuple[pa.Table, Answers]) -> None:
    table, _ = told
    refused = where(
        table,
        (column(table, "direction") == 0) & ((column(table, "refused") == 1) | (column(table, "unanswered") == 1)),
    )
    ports = refused.group_by("vm").aggregate([("service", "count_distinct")])
    assert max(ports["service_count_distinct"].to_pylist()) > 100
    asked = where(
        table,
        (column(table, "direction") == 1)
        & (column(table, "peer") == 0)
        & (column(table, "unanswered") + column(table, "refused") > 0),
    )
    crowd = asked.group_by(["vm", "service"]).aggregate([("remote", "count_distinct")])
    assert max(crowd["remote_count_distinct"].to_pylist()) > 100


def test_long_conversations_begin_once_and_end_once(told: tuple[pa.Table, Answers]) -> None:
    table, _ = told
    long = where(
        table, (column(table, "event") != 3) & (column(table, "verdict") == 0) & (column(table, "protocol") == 6)
    )
    keys = ["vnic", "direction", "local", "local_port", "remote", "remote_port"]
    marked = long.append_column("begins", pa.array((column(long, "event") & 1).astype("u4"))).append_column(
        "ends", pa.array((column(long, "event") >> 1).astype("u4"))
    )
    found = marked.group_by(keys).aggregate(
        [("begins", "sum"), ("ends", "sum"), ([], "count_all"), ("at", "min"), ("age_ms", "min")]
    )
    begun, ended, rows = (column(found, name) for name in ("begins_sum", "ends_sum", "count_all"))
    assert (begun > 1).mean() < 0.03, "but where ports come again"
    assert (ended > 1).mean() < 0.03
    assert rows.max() > 20


def test_the_same_seed_tells_the_same_and_another_one_does_not() -> None:
    def few(seed: int) -> pa.Table:
        people = Population(vms=60, tenants=3, hosts=4, clients=50)
        return pa.concat_tables(records(people, START, START + 600, 3000, np.random.default_rng(seed)))

    assert few(1).equals(few(1))
    assert not few(1).equals(few(2))


@pytest.mark.parametrize("count", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("seconds", [10, 3600, 86400])
def test_there_are_as_many_as_were_asked_for(count: int, seconds: int) -> None:
    people = Population(vms=2, tenants=2, hosts=1, clients=40)
    answers = Answers(people, START, START + seconds)
    tables = list(records(people, START, START + seconds, count, np.random.default_rng(1), answers=answers))
    assert sum(table.num_rows for table in tables) == count == answers.rows
    assert not tables or (column(tables[0], "vm") != column(tables[0], "peer")).all()


def test_one_interval_may_hold_more_than_a_table(population: Population) -> None:
    tables = list(records(population, START, START + 10, 450_000, np.random.default_rng(1)))
    assert [table.num_rows for table in tables] == [ROWS, ROWS, 50_000]


# Known answers


def test_sums_by_vm_are_right(told: tuple[pa.Table, Answers]) -> None:
    table, answers = told
    assert same(answers.by_vm(), grouped(table, "vm"), "vm")
    assert same(answers.by_vm(dropped=True), grouped(where(table, column(table, "verdict") == 1), "vm"), "vm")
    assert same(answers.by_vm(dropped=False), grouped(where(table, column(table, "verdict") != 1), "vm"), "vm")
    hours = np.unique(steps(table, 3600)).tolist()
    assert len(hours) == 4
    for hour in hours:
        assert same(answers.by_vm(hour), grouped(where(table, steps(table, 3600) == hour), "vm"), "vm")


def test_talkers_are_right(told: tuple[pa.Table, Answers], population: Population) -> None:
    table, answers = told
    passed = grouped(where(table, column(table, "verdict") != 1), "vm").sort_by([("bytes_out", "descending")])
    names = dict(zip(population.numbers.tolist(), population.paths, strict=True))
    expected = [
        (names[row["vm"]], row["bytes_out"], row["packets_out"], row["connections"])
        for row in passed.slice(0, 20).to_pylist()
    ]
    assert answers.talkers() == expected


@pytest.mark.parametrize("window", [0, 1])
def test_protocols_are_right(told: tuple[pa.Table, Answers], window: int) -> None:
    table, answers = told
    table = table.append_column("t", pa.array(steps(table, 10)))
    since, until = [(START + 600, START + 1200), (END - 100, END)][window]
    once = where(table, ~echoes(table) & (column(table, "t") >= since) & (column(table, "t") < until))
    keys = ("t", "protocol", "verdict")
    assert same(answers.protocols(window), grouped(once, *keys), *keys)


def test_the_records_of_a_vm_are_right(told: tuple[pa.Table, Answers], population: Population) -> None:
    table, answers = told
    mine = where(table, (column(table, "vm") == population.numbers[answers.vm]) & (steps(table, 3600) == answers.hour))
    assert answers.of_vm().to_pylist() == mine.to_pylist()
    assert mine.num_rows > 100


def test_the_map_of_a_tenant_is_right(told: tuple[pa.Table, Answers], population: Population) -> None:
    table, answers = told
    table = where(table, steps(table, 3600) == answers.last_hour)
    names = dict(zip(population.numbers.tolist(), population.paths, strict=True))
    told_by = population.tenants[answers.tenant]
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row, echo in zip(table.to_pylist(), echoes(table).tolist(), strict=True):
        if row["tenant"] == told_by and (not echo or row["abroad"]):
            near, far = names[row["vm"]], names[row["peer"]] if row["peer"] else str(unpack(row["remote"]))
            ends = (far, near) if row["direction"] else (near, far)
            service = row["service"] if row["service"] < 49152 else 0
            of = sums.setdefault((*ends, row["protocol"], service, row["verdict"]), [0, 0, 0])
            of[0] += row["bytes_out"] + row["bytes_in"]
            of[1] += row["packets_out"] + row["packets_in"]
            of[2] += row["connections"]
    assert answers.edges() == sorted(Edge(*key, *of) for key, of in sums.items())
    assert len(sums) > 100
