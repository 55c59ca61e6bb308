"""Answers that go on for long: how many somebody may have at once, and how they are written."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TypeAlias

import msgspec
from litestar.params import SkipValidation

from serai.controller.api.meters import Meters
from serai.controller.api.problems import problem_of
from serai.controller.errors import TooMuchError
from serai.wire import api


class Streams:
    """Counts what is open, so that nobody opens too much."""

    def __init__(self, most: int, meters: Meters) -> None:
        """Begin with nothing. ``most``: of one caller."""
        self._most, self._meters = most, meters
        self._open: Counter[str] = Counter()

    def require_room(self, name: str) -> None:
        """Let somebody open one more.

        Raises:
            TooMuchError: they have as many as one may.
        """
        if self._open[name] >= self._most:
            raise TooMuchError(f"you have {self._most} answers open that go on: close one", retry_seconds=1)

    @contextlib.contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Count one as open."""
        self._count(name, 1)
        try:
            yield
        finally:
            self._count(name, -1)

    async def lines(self, name: str, of: AsyncIterator[api.Revision], silence: float) -> AsyncGenerator[bytes]:
        """Write what comes as lines of JSON. An error is the last line, as a problem."""
        following: asyncio.Future[api.Revision] | None = None
        with self.one(name):
            try:
                yield b"\n"  # the status is out, and nothing is missed from now on
                while True:
                    following = following or asyncio.ensure_future(anext(of))
                    done, _ = await asyncio.wait({following}, timeout=silence)
                    if not done:
                        yield b"\n"
                        continue
                    revision, following = following.result(), None
                    yield msgspec.json.encode(revision) + b"\n"
            except StopAsyncIteration:
                return
            except Exception as error:  # noqa: BLE001 (whatever it is, whoever watches is told)
                yield msgspec.json.encode(problem_of(error)[0]) + b"\n"
            finally:
                if following is not None:
                    following.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await following
                if isinstance(of, AsyncGenerator):
                    await of.aclose()

    def _count(self, name: str, number: int) -> None:
        self._open[name] += number
        if not self._open[name]:
            del self._open[name]
        self._meters.streams(self._open.total())


Opened: TypeAlias = SkipValidation[Streams]
