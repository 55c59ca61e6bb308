"""Something that several wait for, again and again: that there may be news, and how it stands then."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class News:
    """Wakes whoever waits, and them alone: the next one who waits waits for the next news."""

    def __init__(self) -> None:
        """There is none yet."""
        self._next = asyncio.Event()

    def tell(self) -> None:
        """There is some."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for some."""
        await self._next.wait()

    async def until(
        self, look: Callable[[], Awaitable[T]], true: Callable[[T], bool], *, seconds: float, every: float
    ) -> T:
        """Return what ``look`` finds as soon as that is ``true``, or when the time is over: the last that was found.

        Looks at once, at news, and after ``every`` so many seconds, since others may have done something that nobody tells here.
        """
        deadline = time.monotonic() + seconds
        while True:
            news = self._next  # before the look: what comes after it is not missed
            found = await look()
            left = deadline - time.monotonic()
            if true(found) or left <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, every)):
                    await news.wait()
