"""The flow store takes made up records as they are, and its rollups say what is known of them."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from bench.flowtraffic import Answers, Population, records
from flowing import with_store
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.servicemap import edges
from serai.analysis.traffic.statement import Statement
from serai.analysis.traffic.top import top
from serai.analysis.traffic.window import Window
from serai.flowstore.store import FlowStore
from serai.model.tenancy import Scope

START = int(time.time()) // 3600 * 3600 - 3 * 3600  # not long ago: what is old is removed
END = START + 2 * 3600
SUMS = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")
_SUMS = ", ".join(f"toUInt64(sum({name})) AS {name}" for name in SUMS)


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(vms=600, tenants=6, hosts=20, clients=1000, seed=5)


@pytest.fixture(scope="module")
def told(population: Population, tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, dict[str, pa.Table]]:
    answers = Answers(population, START, END)
    scope = Scope(f"/{population.tenants[answers.tenant]}")
    last, whole = Window(since=answers.last_hour, until=END), Window(since=START, until=END)
    ten_minutes = " AND ".join(f"t {sign} {10 * at}" for sign, at in zip((">=", "<"), answers.windows[0], strict=True))
    questions = {
        "by_vm": f"SELECT vm, {_SUMS} FROM vm_1h GROUP BY vm ORDER BY vm",  # noqa: S608
        "by_hour": f"SELECT vm, {_SUMS} FROM vm_1m WHERE toStartOfHour(t) = toDateTime({START}) GROUP BY vm ORDER BY vm",  # noqa: S608
        "protocols": f"SELECT toUInt32(t) AS t, protocol, verdict, {_SUMS} FROM protocol_10s WHERE {ten_minutes}"  # noqa: S608
        " GROUP BY t, protocol, verdict ORDER BY t, protocol, verdict",
        "rows": f"SELECT count() AS n FROM flows WHERE vm = {population.numbers[answers.vm]} AND at > {answers.hour} AND at <= {answers.hour + 3600}",  # noqa: S608
    }
    asked = {name: Statement(sql=sql, parameters={}) for name, sql in questions.items()}
    asked["talkers"] = top("talkers", Group.of("vm"), Asked(window=whole))
    asked["edges"] = edges(Group.of("vm"), Asked(window=last, scopes=[scope], limit=100_000))

    async def ask(store: FlowStore) -> dict[str, pa.Table]:
        for name in ("endpoints", "vnics", "rules"):
            await store.insert(name, getattr(population, name)())
        for table in records(population, START, END, 300_000, np.random.default_rng(2), answers=answers):
            await store.insert("flows", table)
        return {name: await store.ask(each.sql, each.parameters) for name, each in asked.items()}

    return answers, with_store(tmp_path_factory.mktemp("store"), ask)


def test_sums_by_vm(told: tuple[Answers, dict[str, pa.Table]]) -> None:
    answers, found = told
    assert found["by_vm"].to_pylist() == answers.by_vm().to_pylist()
    assert found["by_hour"].to_pylist() == answers.by_vm(START).to_pylist()


def test_protocols(told: tuple[Answers, dict[str, pa.Table]]) -> None:
    answers, found = told
    assert found["protocols"].to_pylist() == answers.protocols().to_pylist()


def test_records_of_a_vm(told: tuple[Answers, dict[str, pa.Table]]) -> None:
    answers, found = told
    assert found["rows"].to_pylist() == [{"n": answers.of_vm().num_rows}]


def test_talkers(told: tuple[Answers, dict[str, pa.Table]]) -> None:
    answers, found = told
    said = [(row["names"][0], row["bytes"], row["packets"], row["connections"]) for row in found["talkers"].to_pylist()]
    assert said == answers.talkers()


def test_the_map_of_a_tenant(told: tuple[Answers, dict[str, pa.Table]]) -> None:
    answers, found = told
    names = ("source", "target", "protocol", "service", "verdict", "bytes", "packets", "connections")
    assert sorted(tuple(row[name] for name in names) for row in found["edges"].to_pylist()) == answers.edges()
