"""What is on disk: the journal, rollups against a recount, kills in the midst of it all, and room that runs out."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
from pathlib import Path

import pyarrow as pa
import pytest

from bench.flowstore import flow_store
from flowing import Row, traffic, with_store
from serai.flowstore.budget import Part, chosen, keep_within, parts_of
from serai.flowstore.embedded import EngineError, engine
from serai.flowstore.journal import Journal, JournalError
from serai.flowstore.schema import Retention, Topology, statements
from serai.flowstore.store import FlowStore

SUMS = ("packets_out", "packets_in", "bytes_out", "bytes_in", "connections")
GOLDEN = Path(__file__).with_name("cluster.sql")


def names(number: int) -> pa.Table:
    return pa.table({"number": pa.array([number], pa.uint64()), "text": [f"rule {number}"]})


def test_the_journal_gives_back_what_it_took_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", most_bytes=1 << 30)
    assert journal.open() == []
    entries = [journal.append({"rules": names(number), "batches": names(number)}) for number in range(3)]
    assert len({entry.token for entry in entries}) == 3
    journal.remove(entries[1])
    (tmp_path / "j" / "0000000000000009.part").mkdir()  # cut short: nobody was told of it
    again = Journal(tmp_path / "j", most_bytes=1)
    left = again.open()
    assert [entry.token for entry in left] == [entries[0].token, entries[2].token]
    assert [name for name, _ in left[0].tables()] == ["rules", "batches"]
    assert [table.to_pydict() for _, table in left[1].tables()] == [names(2).to_pydict()] * 2
    assert again.full
    fresh = again.append({"rules": names(7)})
    for entry in (*left, fresh):
        again.remove(entry)
    third = Journal(tmp_path / "j", most_bytes=1)
    assert third.open() == []
    tokens = [*(entry.token for entry in entries), fresh.token, third.append({"rules": names(8)}).token]
    assert len(set(tokens)) == 5  # also when all are gone
    assert Journal(tmp_path / "other", most_bytes=1).open() == []


def test_a_damaged_entry_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", most_bytes=1 << 30)
    journal.open()
    entry = journal.append({"rules": names(1)})
    (entry.path / "rules").write_bytes(b"nothing")
    with pytest.raises(JournalError, match="damaged"):
        list(entry.tables())


def test_what_is_in_memory_and_what_is_on_disk_are_one(tmp_path: Path) -> None:
    made = traffic(4).table()
    for name in ("host", "tenant", "network"):
        made = made.set_column(made.schema.get_field_index(name), name, made[name].dictionary_encode())
    tables = {"flows": made.unify_dictionaries().combine_chunks(), "rules": names(1)}
    journal = Journal(tmp_path / "j", most_bytes=1 << 30)
    journal.open()
    entry = journal.append(tables)
    held = dataclasses.replace(entry, rows=tables)
    assert held == entry
    assert [(name, table.to_pydict()) for name, table in held.tables()] == [
        (name, table.to_pydict()) for name, table in entry.tables()
    ]

    async def test(store: FlowStore) -> None:
        for each in (held, entry, held):  # after an insert of which nobody knows how it ended
            for name, table in each.tables():
                await store.insert(name, table, token=f"{each.token}-{name}")
        for table in ("flows", "pair_1m"):
            found = (await store.ask(f"SELECT sum(bytes_out) AS sent FROM {table}")).to_pylist()
            rows = [row for row in made.to_pylist() if table == "flows" or not echo(row) or row["abroad"]]
            assert found == [{"sent": sum(row["bytes_out"] for row in rows)}]

    with_store(tmp_path / "engine", test)


def echo(row: Row) -> bool:
    return row["direction"] == 1 and bool(row["peer"]) and not row["verdict"]


def test_rollups_are_what_a_recount_says(tmp_path: Path) -> None:
    made = traffic(11)

    async def test(store: FlowStore) -> None:
        table = made.table()
        for at in range(0, table.num_rows, 50):
            await store.insert("flows", table.slice(at, 50), token=f"t{at}")
        for rollup in ("vm_10s", "vm_1m", "vm_1h"):
            found = (
                await store.ask(f"SELECT {', '.join(f'sum({each}) AS {each}' for each in SUMS)} FROM {rollup}")
            ).to_pylist()
            assert found == [{each: sum(row[each] for row in made.rows) for each in SUMS}]
        edges = [row for row in made.rows if not (row["direction"] == 1 and row["peer"] and not row["verdict"])]
        for rollup, where in (("protocol_10s", ""), ("pair_1m", "WHERE echo = 0"), ("pair_1h", "WHERE echo = 0")):
            found = (
                await store.ask(f"SELECT {', '.join(f'sum({each}) AS {each}' for each in SUMS)} FROM {rollup} {where}")
            ).to_pylist()
            assert found == [{each: sum(row[each] for row in edges) for each in SUMS}]

    with_store(tmp_path / "engine", test)


def test_nothing_is_lost_or_twice_when_the_engine_is_killed(tmp_path: Path) -> None:
    """Entries of a journal, inserted by whoever comes next; the engine dies at any moment."""
    rnd = random.Random(3)
    journal = Journal(tmp_path / "journal", most_bytes=1 << 30)
    journal.open()
    made = [traffic(seed, conversations=300).table() for seed in range(12)]
    for table in made:
        journal.append({"flows": table})

    async def feed(*, kill: bool) -> bool:
        async with engine(tmp_path / "engine") as running:
            store = FlowStore(running.address)
            if kill:
                delay = rnd.uniform(0.05, 0.5)
                asyncio.get_running_loop().call_later(delay, os.kill, running.process.pid, signal.SIGKILL)
            try:
                await store.prepare()
                for entry in Journal(tmp_path / "journal", most_bytes=1 << 30).open():
                    for name, table in entry.tables():
                        await store.insert(name, table, token=f"{entry.token}-{name}")
                    if rnd.random() < 0.5:  # else it is killed before it has removed the entry
                        journal.remove(entry)
            except EngineError:
                return False
            finally:
                await asyncio.to_thread(store.close)
        return True

    deaths = sum(not asyncio.run(feed(kill=True)) for _ in range(6))
    assert deaths
    while not asyncio.run(feed(kill=False)):
        pass

    async def count() -> None:
        async with flow_store(tmp_path / "engine") as store:
            rows = [row for table in made for row in table.to_pylist()]
            for table in ("flows", "vm_10s", "vm_1m", "vm_1h"):
                found = (
                    await store.ask(f"SELECT {', '.join(f'sum({each}) AS {each}' for each in SUMS)} FROM {table}")
                ).to_pylist()
                assert found == [{each: sum(row[each] for row in rows) for each in SUMS}], table

    asyncio.run(count())


def test_what_is_oldest_and_finest_goes_first() -> None:
    parts = [
        Part(table=table, id=str(day), bytes=10, newest=day)
        for table in ("vm_1h", "flows", "vm_10s")
        for day in (3, 1, 2)
    ]
    assert chosen(parts, 90) == []
    assert [(part.table, part.id) for part in chosen(parts, 75)] == [("flows", "1"), ("flows", "2")]
    assert [(part.table, part.id) for part in chosen(parts, 65)] == [("flows", "1"), ("flows", "2"), ("vm_10s", "1")]
    assert len(chosen(parts, 0)) == 6  # what is being written stays


def test_old_traffic_is_removed_for_good(tmp_path: Path) -> None:
    made = traffic(5, seconds=3 * 86400)

    async def test(store: FlowStore) -> None:
        await store.insert("flows", made.table())
        assert await keep_within(store, 1 << 40) == []
        gone = await keep_within(store, 1)
        assert {part.table for part in gone} >= {"flows", "vm_10s", "pair_1m"}
        assert len({part.id for part in await parts_of(store) if part.table == "flows"}) == 1
        left = (await store.ask("SELECT min(toUInt32(at)) AS first FROM flows")).to_pylist()[0]["first"]
        assert left >= made.since + 86400

    with_store(tmp_path / "engine", test)


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    async def test(store: FlowStore) -> None:
        await store.command("INSERT INTO serai.versions VALUES (99, now())")
        with pytest.raises(EngineError, match="version 99"):
            await store.prepare()

    with_store(tmp_path / "engine", test)


def test_a_cluster_differs_by_templates_alone() -> None:
    """No current cluster can run in tests; what it would be told is looked at here. To accept a change: ``python tests/unit/flowstore/test_kept.py``."""
    assert "\n".join(statements(Topology(cluster="serai"), Retention())) + "\n" == GOLDEN.read_text()
    plain = list(statements(Topology(), Retention()))
    assert not [
        statement for statement in plain if "CLUSTER" in statement or "Replicated" in statement or "_local" in statement
    ]


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(statements(Topology(cluster="serai"), Retention())) + "\n")
