"""Revisions: one change after another, all of it or nothing, and what was before."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from databases import NOW, SIGNER, change, entry, opened, play
from serai.model.key import Key
from serai.store.errors import BehindError, DeposedError, NotWaitingError
from serai.store.store import Store

SHOP, BANK = Key("Policy", "/acme:shop"), Key("Policy", "/acme:bank")
LATER = NOW + timedelta(minutes=5)


def test_in_the_beginning_there_is_nothing(url: str) -> None:
    async def body(store: Store) -> None:
        assert await store.revisions.head() == 0
        assert (await store.marks()).head == 0
        assert await store.revisions.resources() == []
        assert await store.revisions.since(0) == []
        assert await store.revisions.latest(before=None, limit=10) == []
        assert await store.revisions.at(0) == {}
        with pytest.raises(LookupError, match="no revision 1"):
            await store.revisions.one(1)

    play(url, body)


def test_a_change_is_in_force_and_in_history(url: str) -> None:
    async def body(store: Store) -> None:
        assert (
            await store.revisions.commit(change(0, {"/acme:shop": "1", "/acme:bank": "1"}, message="begin"), NOW) == 1
        )
        second = change(1, {"/acme:shop": "2", "/acme:bank": None}, by="bob", reverts=None)
        assert await store.revisions.commit(second, LATER) == 2
        assert [(each.key, each.body, each.revision) for each in await store.revisions.resources()] == [(SHOP, "2", 2)]
        one, two = await store.revisions.since(0)
        assert (one.number, one.at, one.by, one.message, one.confirmed) == (1, NOW, "ada", "begin", True)
        assert (one.writes, one.before) == ({SHOP: "1", BANK: "1"}, {SHOP: None, BANK: None})
        assert (two.number, two.at, two.by) == (2, LATER, "bob")
        assert (two.writes, two.before) == ({SHOP: "2", BANK: None}, {SHOP: "1", BANK: "1"})
        assert await store.revisions.since(1) == [two] == [await store.revisions.one(2)]
        assert await store.revisions.at(1) == {SHOP: "1", BANK: "1"}
        assert await store.revisions.at(2) == {SHOP: "2"}
        assert (await store.marks()).head == await store.revisions.head() == 2

    play(url, body)


def test_all_of_it_is_still_there_later(url: str) -> None:
    async def write(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "ünï\\u0000 \U0001f510"}), NOW)

    async def read(store: Store) -> None:
        assert await store.revisions.at(1) == {SHOP: "ünï\\u0000 \U0001f510"}

    play(url, write)
    play(url, read)


def test_a_change_that_was_checked_against_something_older_is_not_made(url: str) -> None:
    async def body(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "1"}), NOW)
        size = (await store.audit.page(after=None, limit=9)).size
        for head in (0, 2):
            with pytest.raises(BehindError) as caught:
                await store.revisions.commit(change(head, {"/acme:shop": "2"}), NOW)
            assert caught.value.head == 1
        assert await store.revisions.at(9) == {SHOP: "1"}
        assert (await store.audit.page(after=None, limit=9)).size == size

    play(url, body)


def test_the_record_of_a_change_names_its_revision(url: str) -> None:
    async def body(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "1"}, audit=entry(scope="/acme", files=3)), NOW)
        (line,) = (await store.audit.page(after=None, limit=9)).records
        told = json.loads(line.body)
        assert told["seq"] == 0
        assert (told["revision"], told["scope"], told["detail"]) == (1, "/acme", {"files": 3, "revision": 1})

    play(url, body)


def test_many_resources_in_one_change(url: str) -> None:
    async def body(store: Store) -> None:
        many: dict[str, str | None] = {f"/t{number}:p": str(number) for number in range(1300)}
        await store.revisions.commit(change(0, many), NOW)
        some: dict[str, str | None] = {path: None if int(body or 0) % 2 else "new" for path, body in many.items()}
        await store.revisions.commit(change(1, some), NOW)
        assert len(await store.revisions.resources()) == 650
        two = await store.revisions.one(2)
        assert {key.path: body for key, body in two.writes.items()} == some
        assert {key.path: body for key, body in two.before.items()} == many

    play(url, body)


def test_to_delete_what_is_not_there_changes_nothing_but_counts(url: str) -> None:
    async def body(store: Store) -> None:
        assert await store.revisions.commit(change(0, {"/acme:shop": None}), NOW) == 1
        (one,) = await store.revisions.since(0)
        assert (one.writes, one.before) == ({SHOP: None}, {SHOP: None})

    play(url, body)


def test_pages_of_revisions(url: str) -> None:
    async def body(store: Store) -> None:
        for head in range(7):
            await store.revisions.commit(change(head, {"/acme:shop": str(head)}), NOW)
        latest = await store.revisions.latest(before=None, limit=3)
        assert [each.number for each in latest] == [7, 6, 5]
        assert latest[0].writes == {SHOP: "6"}
        assert [each.number for each in await store.revisions.latest(before=5, limit=3)] == [4, 3, 2]
        assert [each.number for each in await store.revisions.latest(before=2, limit=3)] == [1]

    play(url, body)


# Waiting to be confirmed


def test_a_revision_waits_until_it_is_confirmed_and_no_longer(url: str) -> None:
    async def body(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "1"}), NOW)
        await store.revisions.commit(change(1, {"/acme:shop": "2"}, confirm_by=LATER), NOW)
        (waiting,) = await store.revisions.unconfirmed()
        assert (waiting.number, waiting.confirm_by, waiting.confirmed) == (2, LATER, False)
        assert waiting.before == {SHOP: "1"}
        await store.revisions.confirm(2, entry("confirm"), NOW)
        assert await store.revisions.unconfirmed() == []
        assert (await store.revisions.one(2)).confirmed
        size = (await store.audit.page(after=None, limit=9)).size
        for number in (2, 1, 3):
            with pytest.raises(NotWaitingError, match=f"revision {number} does not wait"):
                await store.revisions.confirm(number, entry("confirm"), NOW)
        assert (await store.audit.page(after=None, limit=9)).size == size

    play(url, body)


def test_what_is_taken_back_waits_no_more_and_cannot_be_confirmed(url: str) -> None:
    async def body(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "2"}, confirm_by=LATER), NOW)
        assert await store.revisions.commit(change(1, {"/acme:shop": None}, reverts=1), NOW) == 2
        assert await store.revisions.unconfirmed() == []
        assert (await store.revisions.one(2)).reverts == 1
        with pytest.raises(NotWaitingError):
            await store.revisions.confirm(1, entry("confirm"), NOW)

    play(url, body)


def test_what_was_confirmed_in_the_last_moment_is_not_taken_back(url: str) -> None:
    async def body(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "2"}, confirm_by=LATER), NOW)
        await store.revisions.confirm(1, entry("confirm"), NOW)
        with pytest.raises(NotWaitingError):
            await store.revisions.commit(change(1, {"/acme:shop": None}, reverts=1), NOW)
        assert await store.revisions.at(9) == {SHOP: "2"}
        assert await store.revisions.head() == 1

    play(url, body)


def test_confirmed_or_taken_back_but_never_both(url: str) -> None:
    async def body(store: Store) -> None:
        for number in range(1, 12, 2):
            head = await store.revisions.head()
            await store.revisions.commit(change(head, {"/acme:shop": str(number)}, confirm_by=LATER), NOW)
            ends = await asyncio.gather(
                store.revisions.confirm(head + 1, entry("confirm"), NOW),
                store.revisions.commit(change(head + 1, {"/acme:shop": None}, reverts=head + 1), NOW),
                return_exceptions=True,
            )
            assert sum(isinstance(end, NotWaitingError) for end in ends) == 1
            assert await store.revisions.unconfirmed() == []

    play(url, body)


# Leaders


def test_a_leader_of_an_older_term_changes_nothing(url: str) -> None:
    async def body(store: Store) -> None:
        leadership = store.leadership("all", "wss://a", clock=lambda: NOW)
        term = await leadership.attempt()
        assert await store.revisions.commit(change(0, {"/acme:shop": "1"}, term=term), NOW) == 1
        await leadership.release()
        successor = store.leadership("all", "wss://b", clock=lambda: NOW)
        assert await successor.attempt() == 2
        with pytest.raises(DeposedError, match="term 1, and it is term 2"):
            await store.revisions.commit(change(1, {"/acme:shop": "2"}, term=term), NOW)
        assert await store.revisions.at(9) == {SHOP: "1"}
        await successor.release()

    play(url, body)


# Side by side


def test_of_changes_at_the_same_time_one_is_made(url: str) -> None:
    async def body(store: Store) -> None:
        async with opened(url) as other:
            for head in range(15):
                ends = await asyncio.gather(
                    *(
                        at.revisions.commit(change(head, {"/acme:shop": f"{head}-{which}"}), NOW)
                        for which, at in enumerate((store, other, store, other))
                    ),
                    return_exceptions=True,
                )
                assert sorted(type(end).__name__ for end in ends) == ["BehindError"] * 3 + ["int"]
                (winner,) = (which for which, end in enumerate(ends) if isinstance(end, int))
                assert await other.revisions.at(head + 1) == {SHOP: f"{head}-{winner}"}
            assert await store.revisions.head() == 15
            assert (await store.audit.page(after=None, limit=1)).size == 15

    play(url, body)


def test_whoever_reads_sees_whole_revisions(url: str) -> None:
    async def body(store: Store) -> None:
        async def write() -> None:
            for head in range(25):
                both: dict[str, str | None] = {"/acme:shop": str(head), "/acme:bank": str(head)}
                await store.revisions.commit(change(head, both), NOW)

        async with opened(url) as reader:
            writing = asyncio.create_task(write())
            while not writing.done():
                bodies = {each.body for each in await reader.revisions.resources()}
                assert len(bodies) <= 1
                for revision in await reader.revisions.since(0):
                    assert len(revision.writes) == 2
            await writing

    play(url, body)


def test_a_commit_that_is_given_up_is_made_or_not_and_keeps_nobody_waiting(url: str) -> None:
    async def body(store: Store) -> None:
        async with opened(url) as other:
            for wait in range(24):
                head = await store.revisions.head()
                task = asyncio.create_task(store.revisions.commit(change(head, {"/acme:shop": str(wait)}), NOW))
                await asyncio.sleep(wait / 4000)
                task.cancel()
                async with asyncio.timeout(5):
                    for at in (other, store):
                        await at.people.record(entry("look"), NOW)
            revisions, size = await store.revisions.head(), (await store.audit.page(after=None, limit=1)).size
            assert size == 48 + revisions
            assert (await store.audit.verify([], SIGNER.verify)).ok

    play(url, body)


def test_what_was_begun_is_done_before_the_store_closes(url: str) -> None:
    async def body(store: Store) -> None:
        task = asyncio.create_task(store.revisions.commit(change(0, {"/acme:shop": "1"}), NOW))
        await asyncio.sleep(0)
        task.cancel()

    async def look(store: Store) -> None:
        assert await store.revisions.head() in {0, 1}

    play(url, body)
    play(url, look)
