"""An HTTP server that runs inside somebody else's process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn


class Server(uvicorn.Server):
    """Leaves signals to whoever runs the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def began(self, serving: asyncio.Task[None]) -> bool:
        """Wait until it listens, or ``serving`` (``serve``, as a task) is over; say whether it listens."""
        while not self.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.005)
        return self.started
