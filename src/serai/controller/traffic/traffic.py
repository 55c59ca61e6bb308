"""Keeps the flow store running, and all that goes in and out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import structlog

from serai.controller.current import Current
from serai.controller.errors import NotFoundError, UnavailableError
from serai.controller.traffic.config import EMBEDDED, OFF, FlowSettings
from serai.controller.traffic.exporting import Exporting
from serai.controller.traffic.intake import Intake, Send
from serai.flowstore.budget import keep_within
from serai.flowstore.embedded import Engine, EngineError, engine
from serai.flowstore.exporter import Told
from serai.flowstore.journal import Journal, JournalError
from serai.flowstore.store import FlowStore, address_of
from serai.wire.remote import Records

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 30.0
_BUDGET_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2


class Traffic:
    """All about traffic, as long as it runs."""

    def __init__(self, settings: FlowSettings, current: Current, *, clock: Callable[[], float]) -> None:
        """Start nothing yet."""
        self._settings = settings
        self._store: FlowStore | None = None
        self._trouble = "" if settings.store == OFF else "the flow store starts"
        journal = Journal(settings.directory / "journal", most_bytes=settings.journal_megabytes * 1_000_000)
        self._intake = Intake(current, journal, clock=clock)
        self._exporting = Exporting(settings.export, clock=clock)
        self._intake.listen(self._exporting.listen)

    @property
    def kept(self) -> bool:
        """Whether traffic is kept at all."""
        return self._settings.store != OFF

    @property
    def ready(self) -> bool:
        """Whether it can be asked just now."""
        return self._store is not None

    @property
    def store(self) -> FlowStore:
        """The flow store.

        Raises:
            NotFoundError: there is none.
            UnavailableError: it cannot be asked just now.
        """
        if not self.kept:
            raise NotFoundError("this controller keeps no records of traffic: set [flows] store in its config")
        if self._store is None:
            raise UnavailableError(self._trouble, retry_seconds=2)
        return self._store

    @property
    def intake(self) -> Intake:
        """Where batches come in."""
        return self._intake

    @property
    def exported(self) -> Mapping[str, Told]:
        """How it goes with those who are told of what is recorded, by address."""
        return self._exporting.exporter.figures

    @property
    def trouble(self) -> str:
        """What is wrong; empty where nothing is."""
        return self._trouble or self._intake.trouble

    def serve(self, send: Send) -> None:
        """Tell agents by ``send`` from now on."""
        self._intake.serve(send)

    def records(self, host: str, records: Records) -> None:
        """Take in a batch of an agent; nobody waits."""
        if self.kept:
            self._intake.records(host, records)

    async def run(self, leads: Callable[[], bool]) -> None:
        """Keep it running, until cancelled. Nothing that goes wrong with it ends the controller."""
        if not self.kept:
            return
        while self._settings.store == EMBEDDED and not leads():
            self._trouble = (
                "records of traffic are kept by the controller that leads, and this one does not: ask that one"
            )
            await asyncio.sleep(_LOOK_SECONDS)
        pause = _AGAIN_SECONDS
        while True:
            self._trouble = "the flow store starts"
            try:
                async with self._opened() as (store, running), asyncio.TaskGroup() as tasks:
                    pause = _AGAIN_SECONDS
                    if running is not None:
                        tasks.create_task(_until_dead(running))
                    tasks.create_task(self._intake.run(store))
                    tasks.create_task(self._keep_within(store))
                    tasks.create_task(self._exporting.run(store))
            except* (EngineError, JournalError) as group:
                self._complain(str(_first(group)))
            except* Exception as group:  # noqa: BLE001 (policies must not pay for it)
                _log.exception("the flow store has failed, and begins anew", exc_info=group)
                self._complain("the flow store has failed: see the log of the controller")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_SECONDS)

    def _complain(self, why: str) -> None:
        if why != self._trouble:
            _log.error("trouble with the flow store", why=why)
        self._trouble = why

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[FlowStore, Engine | None]]:
        async with contextlib.AsyncExitStack() as stack:
            running: Engine | None = None
            if self._settings.store == EMBEDDED:
                running = await stack.enter_async_context(engine(self._settings.directory / "engine"))
                store = FlowStore(running.address, retention=self._settings.retention)
            else:
                address, topology = address_of(self._settings.store)
                store = FlowStore(address, topology=topology, retention=self._settings.retention)
            try:
                await store.prepare()
                self._store, self._trouble = store, ""
                _log.info("the flow store is ready", store=self._settings.store.partition(":")[0])
                yield store, running
            finally:
                self._store = None
                await asyncio.to_thread(store.close)

    async def _keep_within(self, store: FlowStore) -> None:
        while self._settings.store == EMBEDDED:
            for part in await keep_within(store, self._settings.disk_bytes):
                _log.warning(
                    "traffic of long ago is removed: the flow store has no more room",
                    table=part.table,
                    partition=part.id,
                    bytes=part.bytes,
                )
            await asyncio.sleep(_BUDGET_SECONDS)


async def _until_dead(running: Engine) -> None:
    code = await running.process.wait()
    raise EngineError(f"the engine of the flow store has died (code {code}), and is started again")


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
