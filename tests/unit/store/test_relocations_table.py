"""Relocations in the store: one open at a time, moves that are part of one, leaders that are none any more."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta

import pytest
from test_host_facts import work
from test_moves_table import ask, leading

from databases import NOW, entry, opened, play
from serai.migration.relocation import Standing
from serai.migration.states import State
from serai.store.errors import DeposedError, MoveError, RelocationError
from serai.store.records import MoveRecord, RelocationRecord, Tally
from serai.store.store import Store

NEW = RelocationRecord(
    number=0, id="0" * 32, goal='{"evacuate":["a"]}', limits='{"together":4}', moves=3, stuck=1, by="ada \0 é", asked=NOW,
    state=Standing.RUNNING,
)  # fmt: skip
PLAN = '{"rounds":[]}'


def new(number: int = 0) -> RelocationRecord:
    return dataclasses.replace(NEW, id=f"{number:032x}")


async def begin(store: Store, number: int = 0) -> RelocationRecord:
    return await store.relocations.begin(new(number), PLAN, entry("relocate", plan="d"), NOW)


async def part(store: Store, number: int, *, term: int, vm: str = "/acme:web", of: str = "0" * 32) -> MoveRecord:
    return await store.moves.ask(
        id_=f"{number:032x}", vm=vm, to="b", by="ada", entry=entry("move"), now=NOW, relocation=of, term=term
    )


def test_it_is_kept_as_it_is(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            made = await begin(store)
            assert made == dataclasses.replace(NEW, number=1)
            assert await store.relocations.open() == [made]
            assert await store.relocations.plan(made.id) == PLAN
            await store.relocations.keep(made.id, "b is late \0", term=term)
            await store.relocations.ask_stop(made.id, "bob \0", entry("stop", who="bob"), NOW)
            await store.relocations.ask_stop(made.id, "eve", entry("stop", who="eve"), NOW)
            on = dataclasses.replace(made, why="b is late \0", stop="bob \0", version=4)
            assert await store.relocations.one("1") == await store.relocations.one("0" * 32) == on
            later = NOW + timedelta(seconds=9)
            ended = await store.relocations.end(
                made.id, Standing.FAILED, "no \0", entry("end"), term=term, now=later
            )  # fmt: skip
            assert ended == dataclasses.replace(on, state=Standing.FAILED, why="no \0", version=5, ended=later)
            assert await store.relocations.open() == []
            for late in (
                store.relocations.keep(made.id, "", term=term),
                store.relocations.end(made.id, Standing.DONE, "", entry("end"), term=term, now=NOW),
                store.relocations.ask_stop(made.id, "bob", entry("stop"), NOW),
            ):
                with pytest.raises(RelocationError, match="is over"):
                    await late
            records = [json.loads(each.body) for each in (await store.audit.page(after=None, limit=9)).records]
            assert [(each["verb"], each["detail"]["relocation"]) for each in records] == [
                (verb, "0" * 32) for verb in ("relocate", "stop", "stop", "end")
            ]
            for nothing in ("9", "f" * 32, "", "²"):
                assert await store.relocations.one(nothing) is None

    play(url, body)


def test_moves_of_an_older_schema_are_kept_and_are_part_of_none(url: str) -> None:
    kept: list[MoveRecord] = []

    async def write(store: Store) -> None:
        kept.append(await ask(store))

    async def read(store: Store) -> None:
        assert await store.moves.open() == kept
        assert kept[0].relocation == ""
        assert (await begin(store)).number == 1

    play(url, write)
    work(
        url, "DROP TABLE relocations", "DROP INDEX ix_moves_relocation", "ALTER TABLE moves DROP COLUMN relocation",
        "UPDATE alembic_version SET version_num = '0003'",
    )  # fmt: skip
    play(url, read)


def test_one_is_open_at_a_time(url: str) -> None:
    async def both() -> None:
        async with opened(url) as one, opened(url) as other, leading(one) as term:
            await one.relocations.require_none()
            came = await asyncio.gather(begin(one), begin(other, 1), return_exceptions=True)
            assert sorted(type(each).__name__ for each in came) == ["RelocationError", "RelocationRecord"]
            for asking in (one.relocations.require_none(), begin(one, 2)):
                with pytest.raises(RelocationError, match="relocation 1, which ada \0 é asked for, is not over"):
                    await asking
            [open_] = await other.relocations.open()
            await one.relocations.end(open_.id, Standing.DONE, "", entry("end"), term=term, now=NOW)
            assert (await begin(other, 3)).number == 2
            assert [each.number for each in await one.relocations.latest(before=None, limit=9)] == [2, 1]
            assert [each.number for each in await one.relocations.latest(before=2, limit=9)] == [1]
            assert [each.number for each in await one.relocations.latest(before=None, limit=1)] == [2]

    asyncio.run(both())


def test_moves_are_part_of_it(url: str) -> None:
    async def body(store: Store) -> None:
        async with leading(store) as term:
            await begin(store)
            assert await store.moves.tallies(["0" * 32]) == {}
            moves = [await part(store, number, term=term, vm=f"/acme:vm{number}") for number in range(4)]
            alone = await store.moves.ask(id_="f" * 32, vm="/acme:x", to="b", by="ada", entry=entry(), now=NOW)
            assert (moves[0].relocation, alone.relocation) == ("0" * 32, "")
            with pytest.raises(MoveError, match="is being moved to host b already"):
                await part(store, 9, term=term, vm="/acme:vm0")
            await store.moves.keep(dataclasses.replace(moves[1], state=State.COPIED, version=5), term=term)
            for at, state in ((2, State.DONE), (3, State.ABORTED)):
                over = dataclasses.replace(moves[at], state=state, version=7)
                await store.moves.end(over, None, entry("end"), term=term, now=NOW + timedelta(seconds=at))
            tally = Tally(done=1, aborted=1, under_way=2, versions=20)
            counted, all_ = await store.moves.of("0" * 32)
            assert (counted, [each.number for each in all_]) == (tally, [1, 2, 3, 4])
            assert await store.moves.of("e" * 32) == (Tally(), [])
            # Of those that are over, the latest: who ends last.
            for ended, numbers in ((1, [1, 2, 4]), (0, [1, 2])):
                counted, some = await store.moves.of("0" * 32, ended=ended)
                assert (counted, [each.number for each in some]) == (tally, numbers)
            assert await store.moves.tallies(["0" * 32, "e" * 32]) == {"0" * 32: tally}
            some = await store.moves.some({moves[3].id, moves[0].id, "e" * 32})
            assert [(each.number, each.state) for each in some] == [(1, State.WAITING), (4, State.ABORTED)]

    play(url, body)


def test_who_leads_no_more_begins_keeps_and_ends_nothing(url: str) -> None:
    async def body(store: Store) -> None:
        leadership = store.leadership("all", "wss://one", clock=lambda: NOW)
        old = await leadership.attempt()
        assert old
        made = await begin(store)
        assert await leadership.attempt() == old + 1
        for late in (
            store.relocations.keep(made.id, "x", term=old),
            store.relocations.end(made.id, Standing.DONE, "", entry("end"), term=old, now=NOW),
            part(store, 0, term=old),
        ):
            with pytest.raises(DeposedError):
                await late
        assert await store.relocations.open() == [made]
        assert await store.moves.open() == []
        assert (await store.audit.page(after=None, limit=9)).size == 1
        await leadership.release()

    play(url, body)
