"""Takes in what agents have counted: names it, keeps it in the journal, tells the agents so, and feeds the engine from there.

An agent is told that a batch is kept when it is in the journal, whatever the engine does. What it sends again, because it was not told in
time, is known by its number.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import pyarrow as pa
import structlog

from serai.controller.current import Current, Edition
from serai.controller.traffic.naming import Batch, Named, Registers, named
from serai.controller.traffic.totals import Totals
from serai.flowstore.embedded import EngineError
from serai.flowstore.journal import Entry, Journal, JournalError
from serai.flowstore.store import FlowStore
from serai.model.inventory import VirtualMachine
from serai.model.update import Update
from serai.wire.remote import FromController, Records, Taken

_log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0
"""Batches of so long are one entry: the engine likes few and large ones."""
_MOST_RECORDS: Final = 400_000
_AGAIN_SECONDS: Final = 2.0
_NAMES: Final = {"endpoints": "number", "vnics": "vnic", "rules": "number"}

Send = Callable[[str, FromController], object]
"""Tells a host something, if it is there."""


class Intake:
    """Where batches come in."""

    def __init__(self, current: Current, journal: Journal, *, clock: Callable[[], float]) -> None:
        """Take nothing yet."""
        self._current, self._journal, self._clock = current, journal, clock
        self._send: Send = lambda *_: None
        self._waiting: collections.deque[Batch] = collections.deque()
        self._records = 0
        self._news = asyncio.Event()
        self._marks: dict[tuple[str, str], int] = {}
        self._held: set[tuple[str, str]] = set()
        self._known: dict[str, set[int]] = {name: set() for name in _NAMES}
        self._registers: Registers | None = None
        self._changes: list[tuple[float, Mapping[str, VirtualMachine], Update]] = []
        self._entries: asyncio.Queue[Entry] = asyncio.Queue()
        self._listeners: list[Callable[[Named], Awaitable[None]]] = []
        self.totals = Totals()
        """What was recorded since the start."""
        self.trouble = ""
        """What is wrong; empty where nothing is."""
        self.taken = 0
        """Records since the start."""
        current.follow(self._follow)

    def serve(self, send: Send) -> None:
        """Tell agents by ``send`` from now on."""
        self._send = send

    def listen(self, listener: Callable[[Named], Awaitable[None]]) -> None:
        """Tell ``listener`` of all that is kept from now on, once; it must not take long."""
        self._listeners.append(listener)

    async def _follow(self, edition: Edition, update: Update) -> None:
        if update.vms:
            self._changes.append((self._clock(), edition.catalog.world.vms, update))

    def records(self, host: str, records: Records) -> None:
        """Take in a batch; nobody waits."""
        self._waiting.append(Batch(host=host, records=records))
        self._records += records.records
        self._news.set()

    async def run(self, store: FlowStore) -> None:
        """Keep what comes, and feed ``store``, until cancelled.

        Raises:
            EngineError: it does not answer at the start.
            JournalError: the journal cannot be used.
        """
        await self._open(store)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take())
            tasks.create_task(self._feed(store))

    async def _open(self, store: FlowStore) -> None:
        """Learn what is kept already: only then it is known what is new."""
        self._entries = asyncio.Queue()
        left = await asyncio.to_thread(self._journal.open)
        for entry in left:
            marks = [table for name, table in await asyncio.to_thread(_tables, entry) if name == "batches"]
            for table in marks:
                self._learn(table)
            self._entries.put_nowait(entry)
        found = await store.ask("SELECT host, spool, max(number) AS number FROM batches GROUP BY host, spool")
        self._learn(found)
        for name, column in _NAMES.items():
            numbers = await store.ask(f"SELECT DISTINCT {column} AS number FROM {name}")  # noqa: S608 (constants)
            self._known[name].update(numbers.column(0).to_pylist())
        self._changes.clear()
        self._registers = await asyncio.to_thread(Registers, self._current.edition.catalog.world.vms)

    def _learn(self, marks: pa.Table) -> None:
        for host, spool, number in zip(*(marks[each].to_pylist() for each in ("host", "spool", "number")), strict=True):
            self._marks[host, spool] = max(number, self._marks.get((host, spool), 0))

    # In

    async def _take(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_AGAIN_SECONDS if self._held else None):
                    await self._news.wait()
            except TimeoutError:
                self._release()
                continue
            if self._records < _MOST_RECORDS:
                await asyncio.sleep(_PAUSE_SECONDS)
            self._news.clear()
            try:
                await self._keep()
                self.trouble = ""
            except JournalError as error:
                self._complain(str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
                self._release()

    async def _keep(self) -> None:
        """Keep what waits, and say so."""
        chosen: list[Batch] = []
        told: dict[tuple[str, str], int] = {}
        count = 0
        while self._waiting and count < _MOST_RECORDS:
            batch = self._waiting.popleft()
            self._records -= batch.records.records
            key = batch.host, batch.records.spool
            if batch.records.number <= self._marks.get(key, 0):
                told[key] = self._marks[key]
            elif self._journal.full or key in self._held:  # after one that was not taken none is
                self._held.add(key)
            else:
                self._marks[key] = told[key] = batch.records.number
                chosen.append(batch)
                count += batch.records.records
        if self._waiting:
            self._news.set()
        try:
            if chosen:
                await self._write(chosen)
        except JournalError:
            for batch in reversed(chosen):
                key = batch.host, batch.records.spool
                self._marks[key] = batch.records.number - 1
                self._held.add(key)
                told.pop(key, None)
            raise
        finally:
            for (host, spool), number in told.items():
                self._send(host, Taken(spool=spool, number=number))

    async def _write(self, batches: list[Batch]) -> None:
        registers = self._registers
        assert registers is not None, "used before run()"  # noqa: S101
        changes, self._changes = self._changes, []
        written = self._current.edition.written

        def work() -> tuple[Named, Entry]:
            for when, vms, update in changes:
                registers.change(when, vms, update.vms)
            found = named(batches, registers, self._known)
            entry = self._journal.append(found.tables)
            self.totals.add(found.tables)
            self.totals.keep(written)
            return found, entry

        found, entry = await asyncio.to_thread(work)
        for name, numbers in found.numbers.items():
            self._known[name] |= numbers
        for fault in found.faults:
            _log.error("records are lost", why=fault)
        self.taken += sum(batch.records.records for batch in batches)
        # Where the engine does not keep up, what waits for it is on disk alone: it may be far more than there is memory.
        self._entries.put_nowait(dataclasses.replace(entry, rows=found.tables) if self._entries.empty() else entry)
        for listener in self._listeners:
            await listener(found)

    # On

    async def _feed(self, store: FlowStore) -> None:
        while True:
            entry = await self._entries.get()
            while not await self._insert(store, entry):  # noqa: ASYNC110 (nothing tells when the engine is back)
                await asyncio.sleep(_AGAIN_SECONDS)
            self._release()

    def _release(self) -> None:
        """Have sent again what was not taken, as soon as there is room."""
        if self._held and not self._journal.full:
            for host, spool in self._held:  # they were not taken; now there is room
                self._send(host, Taken(spool=spool, number=self._marks.get((host, spool), 0), again=True))
            self._held.clear()

    async def _insert(self, store: FlowStore, entry: Entry) -> bool:
        try:
            for name, table in await asyncio.to_thread(_tables, entry):
                await store.insert(name, table, token=f"{entry.token}-{name}")
            await asyncio.to_thread(self._journal.remove, entry)
        except (EngineError, JournalError) as error:
            self._complain(str(error))
            return False
        self.trouble = ""
        return True

    def _complain(self, why: str) -> None:
        if why != self.trouble:
            _log.error("records wait", why=why, waiting_bytes=self._journal.bytes)
        self.trouble = why

    @property
    def settled(self) -> bool:
        """Whether the engine has all that was kept."""
        return not self._waiting and not self._journal.bytes


def _tables(entry: Entry) -> list[tuple[str, pa.Table]]:
    return list(entry.tables())
