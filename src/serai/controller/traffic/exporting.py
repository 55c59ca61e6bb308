"""Passes on what is recorded to those who are to be told (``flowstore/exporter.py``), with the names that go with its numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from serai.analysis.export.names import Names
from serai.controller.traffic.naming import Named
from serai.flowstore.exporter import Exporter, ExportSettings
from serai.flowstore.store import FlowStore

_TABLES: Final = ("endpoints", "vnics", "rules")


class Exporting:
    """One controller's."""

    def __init__(self, settings: ExportSettings, *, clock: Callable[[], float]) -> None:
        """Tell nobody yet."""
        self._wanted = bool(settings.ipfix or settings.ocsf)
        self._names = Names()
        self.exporter = Exporter(settings, clock=clock, version=version("serai"))
        """How it goes."""

    async def run(self, store: FlowStore) -> None:
        """Tell them, until cancelled.

        Raises:
            EngineError: the store does not say what the names are.
        """
        if not self._wanted:
            return
        known = {table: await store.ask(f"SELECT * FROM {table}") for table in _TABLES}  # noqa: S608 (constants)
        await asyncio.to_thread(self._names.learn, known)
        self.exporter.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.exporter.close()

    async def listen(self, found: Named) -> None:
        """Pass on what was recorded just now."""
        if self._wanted:
            await asyncio.to_thread(self._names.learn, found.tables)
            if "flows" in found.tables:
                await self.exporter.offer(found.tables["flows"], self._names)
