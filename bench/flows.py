"""The flow store on a day of a large data center: how fast it takes records in, what they cost on disk, how fast it answers; and the agent.

100 million records of 40,000 VMs, made up (``bench/flowtraffic``) with known answers: those that are compared are exact.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from bench import flowagent
from bench.flowstore import flow_store
from bench.flowtraffic import Answers, Population, records
from bench.metric import Metric
from serai.analysis.filter import Clause, parse
from serai.analysis.traffic.asked import Asked
from serai.analysis.traffic.group import Group
from serai.analysis.traffic.records import records as records_asked
from serai.analysis.traffic.servicemap import edges
from serai.analysis.traffic.statement import Statement
from serai.analysis.traffic.top import top
from serai.analysis.traffic.trend import trend
from serai.analysis.traffic.window import Window
from serai.flowstore.store import FlowStore
from serai.model.tenancy import Scope

ROWS: Final = int(os.environ.get("SERAI_BENCH_FLOW_RECORDS", "100000000"))
"""Fewer give a quick look; what is promised is promised of these."""
DAY: Final = 86400
_ASKERS: Final = 4
_PAUSE_SECONDS: Final = 0.25
_ROUNDS: Final = 40
_QUIET_SECONDS: Final = 20.0
_WORST: Final = 95


class WrongError(AssertionError):
    """The store has answered, and it was not so."""


class Questions:
    """What is measured, each about another VM or another time at every turn."""

    def __init__(self, population: Population, start: int, rng: np.random.Generator) -> None:
        """Ask about this day."""
        self._people, self._start, self._rng = population, start, rng
        self.day = Window(since=start, until=start + DAY)

    def _window(self, seconds: int) -> Window:
        since = self._start + int(self._rng.integers(0, (DAY - seconds) // 60)) * 60
        return Window(since=since, until=since + seconds)

    def _vm(self) -> int:
        """Somebody: of those who speak more, more often."""
        return int(self._people.by_popularity[int(self._people.vms * self._rng.random() ** 2)])

    def vm_trend(self) -> Statement:
        """Five minutes of a VM by protocol, in steps of ten seconds."""
        of = Clause(sql="{vms:Array(UInt64)}", parameters={"vms": [int(self._people.numbers[self._vm()])]})
        return trend(of, "protocol", Asked(window=self._window(300)), 10)

    def protocol_trend(self) -> Statement:
        """Five minutes of the site by protocol, likewise."""
        return trend(None, "protocol", Asked(window=self._window(300)), 10)

    def top_day(self) -> Statement:
        """Who sent most, of the whole day."""
        return top("talkers", Group.of("vm"), Asked(window=self.day))

    def map_tenant(self) -> Statement:
        """The map of a tenant, of an hour, by scope."""
        tenant = Scope(f"/{self._people.tenants[int(self._rng.integers(1, len(self._people.tenants)))]}")
        return edges(Group.of("scope"), Asked(window=self._window(3600), scopes=[tenant], seen=[tenant], limit=500))

    def vm_hour(self) -> Statement:
        """All records of a VM in an hour."""
        vm = self._people.paths[self._vm()]
        return records_asked(Asked(window=self._window(3600), narrowed=parse(f"vm='{vm}'"), limit=1000), None)


GOALS: Final = {"vm_trend": 50, "protocol_trend": 50, "top_day": 600, "map_tenant": 100, "vm_hour": 300}


def measure() -> Iterable[Metric]:
    """Measure the store, then the agent."""
    yield from asyncio.run(_store())
    yield from flowagent.measure()


async def _store() -> list[Metric]:
    population = Population()
    start = int(time.time()) // 3600 * 3600 - DAY
    answers = Answers(population, start, start + DAY)
    questions = Questions(population, start, np.random.default_rng(4))
    with tempfile.TemporaryDirectory(prefix="serai-flows-", dir=os.environ.get("SERAI_BENCH_DIRECTORY")) as directory:
        async with flow_store(Path(directory) / "engine") as store:
            for name in ("endpoints", "vnics", "rules"):
                await store.insert(name, getattr(population, name)())
            began = time.monotonic()
            tables = records(population, start, start + DAY, ROWS, np.random.default_rng(2), answers=answers)
            ingest = await _fill(store, tables, questions)
            print(f"{ROWS} records in {time.monotonic() - began:.0f} s", flush=True)
            found = [Metric(name="flows.ingest_rps", value=ingest, unit="records/s", goal=200_000, least=True)]
            await _settle(store)
            size = (
                await store.ask("SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE database = 'serai' AND active")
            ).to_pylist()[0]["n"]
            found.append(Metric(name="flows.bytes_per_record", value=size / ROWS, unit="bytes", goal=40))
            await _compare(store, questions, answers)
            for name, goal in GOALS.items():
                seconds = await _ask(store, getattr(questions, name))
                found.append(
                    Metric(
                        name=f"flows.{name}_p95_ms",
                        value=float(np.percentile(seconds, _WORST)) * 1000,
                        unit="ms",
                        goal=goal,
                    )
                )
            return found


async def _fill(store: FlowStore, tables: Iterator[pa.Table], questions: Questions) -> float:
    """Insert everything while others ask; return how many records a second went in. What it takes to make them up does not count."""
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            for name in ("vm_trend", "protocol_trend", "map_tenant"):
                statement: Statement = getattr(questions, name)()
                await store.ask(statement.sql, statement.parameters)
                await asyncio.sleep(_PAUSE_SECONDS)

    asking = [asyncio.create_task(ask()) for _ in range(_ASKERS)]
    rows, seconds = 0, 0.0
    try:
        for number, table in enumerate(tables):
            began = time.monotonic()
            await store.insert("flows", table, token=f"bench-{number}")
            seconds += time.monotonic() - began
            rows += table.num_rows
    finally:
        over.set()
        await asyncio.gather(*asking)
    return rows / seconds


async def _settle(store: FlowStore) -> None:
    """Wait until the engine has put together what it will in the next minutes anyway."""
    for _ in range(60):
        if not (await store.ask("SELECT count() AS n FROM system.merges")).to_pylist()[0]["n"]:
            return
        await asyncio.sleep(_QUIET_SECONDS / 10)


async def _compare(store: FlowStore, questions: Questions, answers: Answers) -> None:
    """See to it that what is fast is also true."""
    statement = questions.top_day()
    rows = (await store.ask(statement.sql, statement.parameters)).to_pylist()
    said = [(row["names"][0], row["bytes"], row["packets"], row["connections"]) for row in rows]
    if said != answers.talkers():
        raise WrongError("the day's talkers are others")
    total = (await store.ask("SELECT count() AS n, sum(bytes_out) AS b FROM flows")).to_pylist()[0]
    if (total["n"], total["b"]) != (answers.rows, sum(answers.by_vm().column("bytes_out").to_pylist())):
        raise WrongError("records are missing, or there twice")


async def _ask(store: FlowStore, make: Callable[[], Statement]) -> list[float]:
    found = []
    for _ in range(_ROUNDS):
        statement = make()
        began = time.monotonic()
        await store.ask(statement.sql, statement.parameters)
        found.append(time.monotonic() - began)
    return found
