"""What is in force, as of the latest revision that this controller has seen, and the way to the next."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import structlog

from serai.controller.news import News
from serai.model.catalog import Catalog, Key, read_stored
from serai.model.definitions import Definition
from serai.model.resources import Resource
from serai.model.update import Update
from serai.store.store import Store

_log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 0.1
"""How long a revision that another controller wrote may go unseen."""
_PATIENCE_SECONDS: Final = 2.0
"""How long to wait before the database is asked again after it did not answer."""

T = TypeVar("T")
Changes = Mapping[Key, Definition[Resource] | None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edition:
    """All resources at one revision."""

    revision: int
    catalog: Catalog
    written: Mapping[Key, int]
    """The revision that wrote each resource as it is."""

    def body(self, key: Key) -> str | None:
        """Return a resource as it was written; None where there is none."""
        definition = self.catalog.get(key)
        return definition.body if definition else None

    def next(self, revision: int, catalog: Catalog, touched: Mapping[Key, object]) -> Edition:
        """Return what is in force after one more change."""
        written = {**self.written, **dict.fromkeys(touched, revision)}
        for key, thing in touched.items():
            if thing is None:
                written.pop(key, None)
        return Edition(revision=revision, catalog=catalog, written=written)


Follower = Callable[[Edition, Update], Awaitable[None]]
"""Is told of every revision, in order, with what it changes for the compiler."""


class Current:
    """Keeps up with the store. Reading and resolving resources is work: it is done beside the event loop, one piece at a time."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store
        self._edition = Edition(revision=0, catalog=Catalog.of(()), written={})
        self._turn = asyncio.Lock()
        self._workshop = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog")
        self._followers: list[Follower] = []
        self._news = News()
        self._hosts_mark = 0
        self.trouble = ""
        """Why it cannot keep up; empty while it does."""

    @property
    def edition(self) -> Edition:
        """What is in force, as far as this controller knows."""
        return self._edition

    @property
    def hosts_mark(self) -> int:
        """Changes whenever anything about who may connect does."""
        return self._hosts_mark

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of every revision from now on."""
        self._followers.append(follower)

    async def load(self) -> None:
        """Read everything.

        Raises:
            StoreError: the database does not answer.
            DefinitionErrors: what it holds is not what this version understands.
        """
        async with self._turn:
            marks = await self._store.marks()
            stored = await self._store.revisions.resources()

            def read() -> Catalog:
                return Catalog.of(read_stored(each.key, each.body, each.revision) for each in stored)

            catalog = await self.work(read)
            # Whatever was committed between the two questions is in ``stored`` already; to see it again changes nothing.
            self._edition = Edition(
                revision=marks.head, catalog=catalog, written={each.key: each.revision for each in stored}
            )
            self._hosts_mark = marks.hosts

    async def run(self) -> None:
        """Keep up, until cancelled."""
        while True:
            try:
                marks = await self._store.marks()
                self._hosts_mark = marks.hosts
                if marks.head > self._edition.revision:
                    await self.catch_up()
                self.trouble = ""
            except Exception as error:  # noqa: BLE001 (the database may be away for a while)
                if not self.trouble:
                    _log.error("cannot keep up with the database", error=str(error))
                self.trouble = str(error) or type(error).__name__
                await asyncio.sleep(_PATIENCE_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def catch_up(self) -> Edition:
        """Take in what was committed since, and return what is in force now.

        Raises:
            StoreError: the database does not answer.
        """
        async with self._turn:
            for committed in await self._store.revisions.since(self._edition.revision):
                changes = {
                    key: None if body is None else read_stored(key, body, committed.number)
                    for key, body in committed.writes.items()
                    if body is not None or key in self._edition.written  # seen at load already
                }
                catalog, update = await self.work(self._edition.catalog.changed, changes)
                self._edition = self._edition.next(committed.number, catalog, committed.writes)
                for follower in self._followers:
                    await follower(self._edition, update)
                self._news.tell()
            return self._edition

    async def later_than(self, revision: int) -> Edition:
        """Wait until something newer than ``revision`` is in force, and return it."""
        while self._edition.revision <= revision:
            await self._news.wait()
        return self._edition

    async def work(self, job: Callable[..., T], *arguments: object) -> T:
        """Do something that takes its time, in turn with all else that does."""
        return await asyncio.get_running_loop().run_in_executor(self._workshop, job, *arguments)

    def close(self) -> None:
        """Let go of the thread."""
        self._workshop.shutdown(wait=False, cancel_futures=True)
