"""What the engine says of who told when, at each of the grains that it is kept in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from flowing import DAY, traffic, with_store
from serai.analysis.traffic.coverage import History, history
from serai.analysis.traffic.window import Window
from serai.flowstore.store import FlowStore

NOW = 1_795_564_800
HOSTS = {"a": NOW - 3 * DAY, "b": NOW - 5000}
"""When each of them told first; they tell every ten seconds of their last hours, from then on or so."""

_BATCHES = pa.schema(
    {
        "host": pa.string(), "spool": pa.string(), "number": pa.uint64(), "since": pa.timestamp("ms", "UTC"), "until": pa.timestamp("ms", "UTC"), "records": pa.uint64(),
        "lost_ring": pa.uint64(), "lost_drops": pa.uint64(), "lost_forgotten": pa.uint64(), "lost_spool": pa.uint64(),
    }
)  # fmt: skip


def batches() -> list[dict[str, object]]:
    found = []
    for host, first in HOSTS.items():
        for number, at in enumerate([first, *range(max(first + 10, NOW - 4 * 3600), NOW, 10)]):
            found.append({
                "host": host, "spool": "s", "number": number, "since": at * 1000, "until": at * 1000 + 10_000, "records": 3 + number % 5, "lost_ring": number % 2, "lost_drops": 9,
                "lost_forgotten": 1, "lost_spool": 0,
            })  # fmt: skip
    return found


@pytest.mark.parametrize("seconds", [60, 600, 3600, 2 * 3600, 3 * 3600])
def test_who_told_how_much_and_who_should_have(tmp_path: Path, seconds: int) -> None:
    made = batches()
    window = Window(since=NOW - seconds, until=NOW)

    async def ask(store: FlowStore) -> History:
        await store.insert("batches", pa.Table.from_pylist(made, _BATCHES))
        statement = history(window)
        return History.of((await store.ask(statement.sql, statement.parameters)).to_pylist())

    found = with_store(tmp_path / "engine", ask)
    # Sums stand in the step in which a batch ended.
    early = (
        window.since if seconds <= 600 else window.since // 60 * 60 if seconds <= 7200 else window.since // 3600 * 3600
    )
    mine = (
        [row for row in made if early * 1000 < row["until"] <= NOW * 1000]
        if seconds <= 600
        else [row for row in made if early * 1000 <= row["until"] < NOW * 1000]
    )
    for host in HOSTS:
        own = [row for row in mine if row["host"] == host]
        assert sum(row.records for row in found.told if row.host == host) == sum(row["records"] for row in own)
        lost = sum(row["lost_ring"] + row["lost_forgotten"] + row["lost_spool"] for row in own)
        assert sum(row.lost for row in found.told if row.host == host) == lost
    assert [(row.host, row.t) for row in found.told] == sorted((row.host, row.t) for row in found.told)
    assert found.expected.keys() == HOSTS.keys()
    assert found.begins == HOSTS["a"]
    assert found.begins_within(window) is None
    assert found.begins_within(Window(since=NOW - 9 * DAY, until=NOW)) == HOSTS["a"]


def test_single_rows_begin_where_they_are_kept_from(tmp_path: Path) -> None:
    made = traffic(3, conversations=20, until=NOW)
    window = Window(since=NOW - 9 * DAY, until=NOW)
    first = min(row["at"] for row in made.rows)

    async def ask(store: FlowStore) -> dict[str, float]:
        found = {}
        for table in ("", "flows", "drops", "sightings"):
            statement = history(window, table=table)
            found["nothing", table] = History.of((await store.ask(statement.sql, statement.parameters)).to_pylist())
        await store.insert("batches", pa.Table.from_pylist(batches(), _BATCHES))
        await store.insert("flows", made.table())
        await store.command("ALTER TABLE serai.coverage_1m DELETE WHERE host = 'a' SETTINGS mutations_sync = 2")
        for table in ("", "flows", "drops", "sightings"):
            statement = history(window, table=table)
            found["something", table] = History.of((await store.ask(statement.sql, statement.parameters)).to_pylist())
        return {key: each.begins for key, each in found.items()}

    assert with_store(tmp_path / "engine", ask) == {
        ("nothing", ""): 0, ("nothing", "flows"): 0, ("nothing", "drops"): 0, ("nothing", "sightings"): 0,
        ("something", ""): HOSTS["a"], ("something", "flows"): first - 10, ("something", "drops"): HOSTS["b"], ("something", "sightings"): HOSTS["a"],
    }  # fmt: skip
