"""The audit log: every record in its place, and whoever meddles with the database is found out."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from databases import NOW, SIGNER, STRANGER, change, entry, opened, play
from serai.model.audit_trail import verify_export
from serai.model.checkpoint import Checkpoint
from serai.model.merkle import Frontier, leaf_hash
from serai.model.tenancy import Scope
from serai.store.engine import address
from serai.store.errors import BehindError
from serai.store.records import AuditVerdict
from serai.store.store import Store

RECORDS = 12
Tamper = Callable[[sa.Connection], None]


def tamper(url: str, how: Tamper) -> None:
    """Meddle with the database, past the store."""
    found = address(url)
    driver = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}[found.drivername]
    engine = sa.create_engine(found.set(drivername=driver))
    with engine.begin() as connection:
        how(connection)
    engine.dispose()


def execute(*statements: str) -> Tamper:
    def how(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(sa.text(statement))

    return how


async def fill(store: Store, count: int = RECORDS) -> str:
    for number in range(count):
        await store.people.record(entry(f"verb-{number % 3}", who=f"who{number % 2}", number=number), NOW)
    return await store.audit.checkpoint()


def verified(url: str, *trusted: str) -> AuditVerdict:
    async def body() -> AuditVerdict:
        async with opened(url) as store:
            return await store.audit.verify(trusted, SIGNER.verify)

    return asyncio.run(body())


def filled(url: str) -> str:
    async def body() -> str:
        async with opened(url) as store:
            return await fill(store)

    return asyncio.run(body())


# What is written


def test_every_act_is_on_record(url: str) -> None:
    async def body(store: Store) -> None:
        await store.people.record(entry("log in", who="eve", outcome="refused", address="192.0.2.7"), NOW)
        await store.revisions.commit(change(0, {"/acme:p": "1"}, audit=entry(scope="/acme")), NOW)
        lines = (await store.audit.page(after=None, limit=9)).records
        first, second = (json.loads(line.body) for line in lines)
        assert first == {
            "seq": 0, "at": "2026-03-01T12:00:00.250000Z", "who": "eve", "verb": "log in", "object": "something",
            "scope": "/", "outcome": "refused", "detail": {"address": "192.0.2.7"}, "revision": 0,
        }  # fmt: skip
        assert (second["seq"], second["scope"], second["revision"]) == (1, "/acme", 1)
        assert [line.leaf_hash for line in lines] == [leaf_hash(line.body) for line in lines]

    play(url, body)


def test_what_is_not_done_is_not_on_record(url: str) -> None:
    async def body(store: Store) -> None:
        before = await fill(store, 2)
        with pytest.raises(BehindError):
            await store.revisions.commit(change(4, {"/acme:p": "1"}), NOW)
        assert await store.audit.checkpoint() == before

    play(url, body)


def test_the_checkpoint_is_that_of_the_tree_over_all_records(url: str) -> None:
    async def body(store: Store) -> None:
        assert Checkpoint.opened(await store.audit.checkpoint(), SIGNER.verify).size == 0
        frontier = Frontier()
        for size in range(1, 6):
            found = Checkpoint.opened(await fill(store, 1), SIGNER.verify)
            frontier = frontier.append((await store.audit.page(after=size - 2, limit=1)).records[0].leaf_hash)
            assert (found.origin, found.size, found.root) == (SIGNER.origin, size, frontier.root)

    play(url, body)


@pytest.mark.parametrize("awkward", ["x" * 5000, "nul\0nul", "\ud800", "back\\slash\\u0000", "ünï\U0001f510", "%_/"])
def test_whatever_people_call_themselves_is_on_record(url: str, awkward: str) -> None:
    async def body(store: Store) -> None:
        await store.people.record(entry(awkward, who=awkward, scope=f"/{awkward[:40]}", said=awkward), NOW)
        page = await store.audit.page(after=None, limit=9, who=awkward, verb=awkward)
        told = json.loads(page.records[0].body)
        assert (told["who"], told["verb"], told["detail"]["said"]) == (awkward, awkward, awkward)
        verdict = await store.audit.verify([], SIGNER.verify)
        assert verdict.ok, verdict.faults

    play(url, body)


# What is read


def test_pages_of_records(url: str) -> None:
    async def body(store: Store) -> None:
        await fill(store)
        seen, after = [], None
        while True:
            page = await store.audit.page(after=after, limit=5)
            assert page.size == RECORDS
            seen += [json.loads(line.body)["seq"] for line in page.records]
            if (after := page.after) is None:
                break
        assert seen == list(range(RECORDS))

    play(url, body)


def test_records_of_one_scope_and_below(url: str) -> None:
    async def body(store: Store) -> None:
        scopes = ["/", "/acme", "/acme/shop", "/acme2", "/acm%", "/globex"]
        for scope in scopes:
            await store.people.record(entry(scope=scope), NOW)

        async def found(**filters: Any) -> list[str]:
            lines = (await store.audit.page(after=None, limit=99, **filters)).records
            return [json.loads(line.body)["scope"] for line in lines]

        assert await found() == await found(scope=Scope("/")) == scopes
        assert await found(scope=Scope("/acme")) == ["/acme", "/acme/shop"]
        assert await found(scope=Scope("/acme/shop")) == ["/acme/shop"]
        assert await found(scope=Scope("/nobody")) == []

    play(url, body)


def test_records_of_a_person_and_a_verb(url: str) -> None:
    async def body(store: Store) -> None:
        await fill(store)
        page = await store.audit.page(after=3, limit=99, who="who1", verb="verb-2")
        assert [json.loads(line.body)["seq"] for line in page.records] == [5, 11]

    play(url, body)


def test_an_export_can_be_verified_without_a_database(url: str) -> None:
    async def body(store: Store) -> None:
        early = await fill(store, 5)
        await fill(store, 8)
        lines = [line async for line in store.audit.export()]
        assert len(lines) == 14
        own = Checkpoint.opened(await store.audit.checkpoint(), SIGNER.verify)
        assert verify_export(lines, [early], SIGNER.verify) == (13, own.root, ())
        lines[3] = lines[3].replace(b"verb-0", b"verb-9")
        size, root, faults = verify_export(lines, [early], SIGNER.verify)
        assert (size, root == own.root) == (13, False)
        assert len(faults) == 2

    play(url, body)


# Who meddles


def test_a_log_that_nobody_touched_is_whole(url: str) -> None:
    async def body(store: Store) -> None:
        notes = [await store.audit.checkpoint()] + [await fill(store, 3) for _ in range(4)]
        verdict = await store.audit.verify(notes, SIGNER.verify)
        assert (verdict.ok, verdict.size, verdict.faults) == (True, 12, ())
        assert verdict.root == Checkpoint.parse(notes[-1]).root

    play(url, body)


def test_a_log_is_whole_while_it_grows(url: str) -> None:
    async def body(store: Store) -> None:
        async with opened(url) as other:
            writing = asyncio.create_task(fill(other, 60))
            while not writing.done():
                note = await other.audit.checkpoint()
                verdict = await store.audit.verify([note], SIGNER.verify)
                assert verdict.ok, verdict.faults
                lines = [line async for line in store.audit.export()]
                assert not verify_export(lines, [note], SIGNER.verify)[2]
            await writing

    play(url, body)


LAST = RECORDS - 1


@pytest.mark.parametrize(
    ("how", "found"),
    [
        (["UPDATE audit SET body = (SELECT body FROM audit WHERE seq = 3) WHERE seq = 4"], "record 4 has been changed"),
        (["DELETE FROM audit WHERE seq = 4"], "record 4 is not where it should be: there is record 5"),
        (["DELETE FROM audit WHERE seq = 0"], "record 0 is not where it should be: there is record 1"),
        (["DELETE FROM audit WHERE seq >= 9"], "there are 9 records, and there were 12"),
        (["DELETE FROM audit"], "there are 0 records, and there were 12"),
        (
            [
                "UPDATE audit SET seq = -1 WHERE seq = 4", "UPDATE audit SET seq = 4 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = -1",
            ],
            "record 4 says that it is record 5",
        ),
        (["DELETE FROM audit WHERE seq = 4", "UPDATE audit SET seq = seq - 1 WHERE seq > 4"], "record 4 says that it is"),
        (["UPDATE audit SET scope = '/elsewhere' WHERE seq = 4"], "record 4 cannot be found by what it says"),
        (["UPDATE audit SET who = 'nobody' WHERE seq = 4"], "record 4 cannot be found by what it says"),
        (["UPDATE audit SET verb = 'nothing' WHERE seq = 4"], "record 4 cannot be found by what it says"),
        (
            ["INSERT INTO audit SELECT 12, scope, who, verb, body, hash FROM audit WHERE seq = 4"],
            "there are 13 records, and the log's own checkpoint covers 12",
        ),
        (["UPDATE head SET size = 11"], "the database counts 11 records, and its own checkpoint 12"),
        (["UPDATE head SET checkpoint = 'nonsense'"], "the database's own checkpoint cannot be believed"),
    ],
)  # fmt: skip
def test_what_was_done_to_the_database_is_found(url: str, how: list[str], found: str) -> None:
    filled(url)
    tamper(url, execute(*how))
    verdict = verified(url)
    assert not verdict.ok
    assert any(found in fault for fault in verdict.faults), verdict.faults


def rewrite(number: int) -> Tamper:
    """Change a record, and all that the database says of it, as far as one can without the key."""

    def how(connection: sa.Connection) -> None:
        body = connection.execute(sa.text("SELECT body FROM audit WHERE seq = :seq"), {"seq": number}).scalar_one()
        body = bytes(body).replace(b'"who":"who', b'"who":"WHO')
        connection.execute(
            sa.text("UPDATE audit SET body = :body, hash = :hash, who = :who WHERE seq = :seq"),
            {"body": body, "hash": leaf_hash(body), "who": json.loads(body)["who"], "seq": number},
        )
        frontier = Frontier()
        for (raw,) in connection.execute(sa.text("SELECT body FROM audit ORDER BY seq")).all():
            frontier = frontier.append(leaf_hash(bytes(raw)))
        connection.execute(sa.text("UPDATE head SET frontier = :raw"), {"raw": frontier.encode()})

    return how


@pytest.mark.parametrize("number", [0, 4, LAST])
def test_a_record_that_was_rewritten_with_care_is_found(url: str, number: int) -> None:
    filled(url)
    tamper(url, rewrite(number))
    assert "the log is not what it was at 12 records" in verified(url).faults[0]


def test_a_record_that_was_rewritten_is_found_by_the_witnesses_also_when_the_log_goes_on(url: str) -> None:
    early = filled(url)
    tamper(url, rewrite(4))
    filled(url)  # the controller signs what it finds
    assert verified(url).ok
    assert verified(url, early).faults == ("the log is not what it was at 12 records, when its checkpoint was signed",)


def test_a_checkpoint_that_somebody_else_signed_is_not_believed(url: str) -> None:
    filled(url)
    tamper(url, rewrite(4))

    def how(connection: sa.Connection) -> None:
        raw = connection.execute(sa.text("SELECT frontier FROM head")).scalar_one()
        frontier = Frontier.decode(bytes(raw))
        note = Checkpoint(origin=STRANGER.origin, size=frontier.size, root=frontier.root).signed(STRANGER)
        connection.execute(sa.text("UPDATE head SET checkpoint = :note"), {"note": note})

    tamper(url, how)
    assert verified(url).faults == (
        "the database's own checkpoint cannot be believed: the checkpoint of 12 records is not signed by this site's audit key",
    )


def test_a_witness_with_a_forged_checkpoint_is_not_believed(url: str) -> None:
    note = filled(url)
    forged = Checkpoint(origin=STRANGER.origin, size=99, root=Checkpoint.parse(note).root).signed(STRANGER)
    assert [fault.split(":")[0] for fault in verified(url, forged).faults] == ["a checkpoint cannot be believed"]


@pytest.mark.parametrize("goes_on", [0, 3, 12])
def test_a_file_that_was_rolled_back_is_found_by_the_witnesses(sqlite_url: str, tmp_path: Path, goes_on: int) -> None:
    filled(sqlite_url)
    file, copy = tmp_path / "serai.db", tmp_path / "copy.db"
    with sqlite3.connect(file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    witnessed = filled(sqlite_url)
    for suffix in ("-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    copy.replace(file)

    async def go_on() -> None:
        async with opened(sqlite_url) as store:
            for number in range(goes_on):
                await store.people.record(entry("another", number=number), NOW)

    asyncio.run(go_on())
    assert verified(sqlite_url).ok  # by itself it is whole
    (fault,) = verified(sqlite_url, witnessed).faults
    expected = "there are {} records, and there were 24" if goes_on < 12 else "the log is not what it was at 24 records"
    assert fault.startswith(expected.format(12 + goes_on))


def test_many_faults_are_not_all_told(url: str) -> None:
    async def body() -> None:
        async with opened(url) as store:
            await fill(store, 50)

    asyncio.run(body())
    tamper(url, execute("UPDATE audit SET who = 'nobody'"))
    assert 1 < len(verified(url).faults) <= 40


def test_looking_through_the_log_does_not_keep_others_waiting(postgresql_url: str) -> None:
    async def body(store: Store) -> None:
        await fill(store, 3)
        tamper(
            postgresql_url,
            execute(
                "INSERT INTO audit SELECT n, scope, who, verb, body, hash FROM audit, generate_series(3, 20000) n"
                " WHERE seq = 2"
            ),
        )
        longest, until = 0.0, asyncio.get_running_loop().time
        look = asyncio.create_task(store.audit.verify([], SIGNER.verify))
        while not look.done():
            began = until()
            await asyncio.sleep(0.005)
            longest = max(longest, until() - began)
        assert (await look).size == 20001
        assert longest < 0.5

    play(postgresql_url, body)
