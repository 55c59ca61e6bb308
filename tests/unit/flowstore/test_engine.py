"""The engine's process: who may ask what, what a failure leaves behind, and when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from flowing import with_store
from serai.flowstore.embedded import Engine, EngineError, engine
from serai.flowstore.store import FlowStore, QuestionError, UrlError, address_of


def with_engine(directory: Path, test: Callable[[Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        async with engine(directory) as running:
            await test(running)

    asyncio.run(run())


def client(running: Engine, user: str, secret: str) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=running.address.port, username=user, password=secret, compress=False, autogenerate_session_id=False
    )  # fmt: skip


def test_it_answers_nobody_who_does_not_know_a_secret(tmp_path: Path) -> None:
    async def test(running: Engine) -> None:
        for user, secret in (
            ("reader", "wrong"),
            ("reader", ""),
            ("writer", running.address.reader),
            ("", ""),
            ("default", ""),
        ):
            with pytest.raises((DatabaseError, OperationalError), match="answers nobody else"):
                await asyncio.to_thread(client, running, user, secret)

    with_engine(tmp_path / "engine", test)


def test_readers_only_read_and_one_statement_at_a_time(tmp_path: Path) -> None:
    outfile = tmp_path / "never"

    async def test(store: FlowStore) -> None:
        for statement in (
            "DROP TABLE flows", "INSERT INTO versions VALUES (9, now())", "SELECT * FROM file('/etc/hostname', 'LineAsString')",
            "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')", "SET readonly = 0", "SELECT 1; DROP TABLE flows", "SYSTEM SHUTDOWN",
            "CREATE TABLE x (a UInt8) ENGINE = Memory", f"SELECT 1 INTO OUTFILE '{outfile}'",
        ):  # fmt: skip
            with pytest.raises(QuestionError):
                await store.ask(statement)
            assert (await store.ask("SELECT 7 AS x")).to_pylist() == [
                {"x": 7}
            ]  # nothing of a failure is left in the next answer
        assert (await store.ask("SELECT count() AS n FROM flows")).to_pylist() == [{"n": 0}]
        assert not outfile.exists()

    with_store(tmp_path / "engine", test)


@pytest.mark.parametrize("nasty", ["", "'", "\\", "x\n\ty", "'; DROP TABLE flows; --", "{x:String}", "ü🦔", "a" * 5000])
def test_parameters_are_values(tmp_path_factory: pytest.TempPathFactory, nasty: str) -> None:
    async def test(store: FlowStore) -> None:
        found = await store.ask("SELECT {x:String} AS x, {n:Array(UInt64)} AS n", {"x": nasty, "n": [1, 2**64 - 1]})
        assert found.to_pylist() == [{"x": nasty, "n": [1, 2**64 - 1]}]
        many = list(range(2**63, 2**63 + 3000))
        assert (await store.ask("SELECT {n:Array(UInt64)} AS n", {"n": many})).to_pylist() == [{"n": many}]

    with_store(tmp_path_factory.mktemp("engine") / "engine", test)


def test_answers_never_go_to_another_question(tmp_path: Path) -> None:
    """A session that several threads shared mixed up their parameters."""

    async def test(store: FlowStore) -> None:
        async def one(number: int) -> None:
            found = await store.ask(
                "SELECT {a:UInt64} AS a, {b:String} AS b FROM numbers(3)", {"a": number, "b": f"t{number}"}
            )
            assert found.to_pylist() == [{"a": number, "b": f"t{number}"}] * 3

        await asyncio.gather(*(one(number) for number in range(400)))

    with_store(tmp_path / "engine", test)


def test_what_was_inserted_is_there_once_whatever_is_tried_again(tmp_path: Path) -> None:
    rows = pa.table({"number": pa.array([1, 2], pa.uint64()), "text": ["a", "b"]})

    async def test(store: FlowStore) -> None:
        for _ in range(3):
            await store.insert("rules", rows, token="one")
        await store.insert("rules", rows, token="two")
        assert (await store.ask("SELECT count() AS n FROM rules")).to_pylist() == [{"n": 4}]
        with pytest.raises(EngineError, match="says no"):
            await store.insert("rules", pa.table({"nothing": [1]}))

    with_store(tmp_path / "engine", test)


def test_a_second_one_over_the_same_directory_is_refused(tmp_path: Path) -> None:
    async def test(_: Engine) -> None:
        with pytest.raises(EngineError, match="does not start"):
            async with engine(tmp_path / "engine"):
                pass

    with_engine(tmp_path / "engine", test)


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\nfrom serai.flowstore.embedded import engine\n"
        "async def main():\n async with engine(pathlib.Path(sys.argv[1])) as e:\n  print(e.process.pid, flush=True)\n  await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "engine")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    began = time.monotonic()
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        if time.monotonic() - began > 20:
            os.kill(child, signal.SIGKILL)
            pytest.fail("it lives on")
        time.sleep(0.05)


def test_addresses_of_clusters_are_read() -> None:
    address, topology = address_of("clickhouse://me:s%40cret@db.example/?cluster=all&secure=1")
    assert (address.host, address.port, address.writer_name, address.writer, address.secure) == (
        "db.example",
        8443,
        "me",
        "s@cret",
        True,
    )
    assert topology.cluster == "all"
    for wrong in (
        "http://x",
        "clickhouse://",
        "clickhouse://x/path",
        "clickhouse://x/?what=1",
        "clickhouse://u:hidden@x:99999999",
    ):
        with pytest.raises(UrlError) as told:
            address_of(wrong)
        assert "hidden" not in str(told.value)
