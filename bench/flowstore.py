"""A flow store of one's own, for measurements and tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from serai.flowstore.embedded import engine
from serai.flowstore.store import FlowStore


@contextlib.asynccontextmanager
async def flow_store(directory: Path) -> AsyncIterator[FlowStore]:
    """Run a real engine over ``directory``, and give a store that has its tables."""
    async with engine(directory) as running:
        store = FlowStore(running.address)
        try:
            await store.prepare()
            yield store
        finally:
            await asyncio.to_thread(store.close)
