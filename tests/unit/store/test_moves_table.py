"""Moves in the store: one open of each VM, receipts that the audit log proves, leaders that are none any more."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from databases import NOW, SIGNER, entry, opened, play
from serai.migration.states import State
from serai.model.checkpoint import Checkpoint
from serai.model.merkle import continues, includes, leaf_hash
from serai.model.migration import Facts, Receipt, Step, Ticket
from serai.store.engine import address, connect_blocking
from serai.store.errors import DeposedError, MoveError
from serai.store.records import MoveRecord
from serai.store.schema import METADATA
from serai.store.store import Store

TICKET = Ticket(
    move="0" * 32, epoch=1, vm="/acme:web", domain="web", vnics=[2**64 - 1, 3], source="a", to="b", until=1.5
)
FACTS = Facts(digest="d" * 64, flows_first=7, encrypted=False, gap_us=0)
RECEIPT = Receipt(
    ticket=TICKET, by="ada \u0000 é", began=1772366400.25, ended=1772366403.1, made=False, reached=Step.FENCED, facts=FACTS,
    why="nul \u0000", unheard=["a"],
)  # fmt: skip


@asynccontextmanager
async def leading(store: Store) -> AsyncIterator[int]:
    leadership = store.leadership("all", "wss://one", clock=lambda: NOW)
    term = await leadership.attempt()
    assert term
    try:
        yield term
    finally:
        await leadership.release()


async def ask(store: Store, vm: str = "/acme:web", *, number: int = 0, to: str = "b") -> MoveRecord:
    return await store.moves.ask(id_=f"{number:032x}", vm=vm, to=to, by="ada", entry=entry("move", vm=vm), now=NOW)


def test_the_migrations_make_what_the_schema_says(url: str) -> None:
    engine = connect_blocking(address(url))
    try:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
            assert "uq_moves_open" in {index["name"] for index in sa.inspect(connection).get_indexes("moves")}
    finally:
        engine.dispose()


def test_who_is_moved_already_is_remembered_as_such(url: str) -> None:
    async def body(store: Store) -> None:
        made = await store.moves.ask(
            id_="1" * 32, vm="/acme:app", to="b", by="hypervisor of host b", entry=entry("move"), now=NOW, migrate=False,
            there=Facts(encrypted=True),
        )  # fmt: skip
        assert (made.migrate, made.there) == (False, Facts(encrypted=True))
        assert await store.moves.open() == [made]
        assert (await ask(store)).migrate

    play(url, body)


def test_a_move_is_kept_as_it_is(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            made = await ask(store)
            assert (made.number, made.epoch, made.state, made.version, made.source) == (1, 1, State.WAITING, 1, "")
            on = dataclasses.replace(
                made, state=State.COPIED, since=NOW + timedelta(seconds=1), version=4, reached=Step.COPIED, source="a",
                ticket=TICKET, address="[::1]:7", digest="d" * 64, here=FACTS, there=Facts(refused=2), why="so \u0000 é", note="and so", migrate=False,
            )  # fmt: skip
            await store.moves.keep(on, term=term)
            assert await store.moves.one("1") == await store.moves.one("0" * 32) == on
            assert await store.moves.open() == [on]
            ended = await store.moves.end(on, RECEIPT, entry("moved"), term=term, now=NOW)
            assert ended == dataclasses.replace(on, ended=NOW, receipt=RECEIPT, audit=1)
            assert await store.moves.one("1") == ended
            assert await store.moves.open() == []
            for late in (
                store.moves.keep(on, term=term),
                store.moves.end(on, RECEIPT, entry("moved"), term=term, now=NOW),
                store.moves.ask_abort("0" * 32, "bob", entry("abort a move"), NOW),
            ):
                with pytest.raises(MoveError, match="is over"):
                    await late
            assert (await store.audit.page(after=None, limit=9)).size == 2
            for nothing in ("9", "f" * 32, "", "x", "²", "9" * 31):
                assert await store.moves.one(nothing) is None

    play(url, body)


def test_of_each_vm_one_move_is_open(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            first = await ask(store)
            with pytest.raises(MoveError, match="/acme:web is being moved to host b already: that is move 1"):
                await ask(store, number=1, to="c")
            await ask(store, "/acme:app", number=2)
            await store.moves.end(first, RECEIPT, entry(), term=term, now=NOW)
            again = await ask(store, number=3, to="a")
            assert (again.epoch, (await store.moves.open())[0].epoch) == (2, 1)
            # What was refused has left nothing, in the log neither.
            assert [json.loads(each.body)["detail"].get("move", "") for each in (await store.audit.page(after=None, limit=9)).records] == [
                f"{n:032x}" for n in (0, 2, 0, 3)
            ]  # fmt: skip

    play(url, body)


def test_two_who_ask_at_once_get_one_move(url: str) -> None:
    async def both() -> None:
        async with opened(url) as one, opened(url) as other:
            came = await asyncio.gather(ask(one), ask(other, number=1), return_exceptions=True)
            assert sorted(type(each).__name__ for each in came) == ["MoveError", "MoveRecord"]
            assert len(await one.moves.open()) == 1

    asyncio.run(both())


def test_who_leads_no_more_keeps_and_ends_nothing(url: str) -> None:
    async def body(store: Store) -> None:
        leadership = store.leadership("all", "wss://one", clock=lambda: NOW)
        old = await leadership.attempt()
        assert old
        made = await ask(store)
        assert await leadership.attempt() == old + 1
        changed = dataclasses.replace(made, state=State.PLANNED, version=2)
        with pytest.raises(DeposedError):
            await store.moves.keep(changed, term=old)
        with pytest.raises(DeposedError):
            await store.moves.end(changed, RECEIPT, entry(), term=old, now=NOW)
        assert await store.moves.open() == [made]
        assert (await store.audit.page(after=None, limit=9)).size == 1
        await leadership.release()

    play(url, body)


def test_who_wants_it_aborted_first_is_remembered(url: str) -> None:
    async def body(store: Store) -> None:
        await ask(store)
        for who in ("bob \0", "eve"):
            await store.moves.ask_abort("0" * 32, who, entry("abort a move", who=who), NOW)
        found = await store.moves.one("1")
        assert found
        assert found.abort == "bob \0"

    play(url, body)


def test_moves_are_found_by_vm_host_and_whether_they_are_over(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            for number in range(6):
                made = await ask(store, f"/acme:vm{number % 3}", number=number, to="bc"[number % 2])
                await store.moves.keep(dataclasses.replace(made, source="a" if number < 4 else "d"), term=term)
                if number < 4:
                    await store.moves.end(dataclasses.replace(made, source="a"), RECEIPT, entry(), term=term, now=NOW)

            async def numbers(**which: object) -> list[int]:
                return [each.number for each in await store.moves.latest(**{"before": None, "limit": 9, **which})]  # type: ignore[arg-type]

            assert await numbers() == [6, 5, 4, 3, 2, 1]
            assert await numbers(before=4, limit=2) == [3, 2]
            assert await numbers(vm="/acme:vm0") == [4, 1]
            assert await numbers(host="c") == [6, 4, 2]
            assert await numbers(host="a") == [4, 3, 2, 1]
            assert await numbers(still_open=True) == [6, 5]
            assert await numbers(host="d", vm="/acme:vm1", still_open=True) == [5]

    play(url, body)


def test_a_receipt_is_proven_by_the_log(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            for number in range(3):
                await ask(store, f"/acme:vm{number}", number=number)
            before = Checkpoint.parse(await store.audit.checkpoint())
            ended = await store.moves.end((await store.moves.open())[1], RECEIPT, entry("moved"), term=term, now=NOW)
            await ask(store, "/acme:more", number=9)
            assert ended.audit == 3
            proof = await store.audit.proof(ended.audit, before.size)
            told = json.loads(proof.body)
            assert told["detail"]["receipt"] == msgspec.to_builtins(RECEIPT)
            now = Checkpoint.opened(proof.checkpoint, SIGNER.verify)
            assert now.size == 5
            assert includes(leaf_hash(proof.body), proof.seq, now.size, now.root, proof.inclusion)
            assert not includes(leaf_hash(proof.body + b" "), proof.seq, now.size, now.root, proof.inclusion)
            assert continues(before.size, before.root, now.size, now.root, proof.consistency)
            assert (await store.audit.proof(ended.audit, 0)).consistency == ()
            for seq, since in ((5, 0), (0, 6)):
                with pytest.raises(LookupError, match="5 records"):
                    await store.audit.proof(seq, since)

    play(url, body)
