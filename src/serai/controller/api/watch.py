"""Routes: what changes, as it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import Router, get
from litestar.params import Dependency, QueryParameter
from litestar.response import Stream

from serai.controller.api.asking import LARGEST, REFUSALS, Service, Who
from serai.controller.api.meters import Meters
from serai.controller.api.problems import problem_of
from serai.controller.errors import TooMuchError
from serai.wire import api

SILENCE_SECONDS: Final = 15.0
"""After this long without a change an empty line says that the connection lives."""


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
            raise TooMuchError(f"you have {self._most} streams open: close one", retry_seconds=1)

    async def lines(self, name: str, of: AsyncIterator[api.Revision], silence: float) -> AsyncGenerator[bytes]:
        """Write what comes as lines of JSON. An error is the last line, as a problem."""
        self._count(name, 1)
        following: asyncio.Future[api.Revision] | None = None
        try:
            yield b"\n"  # so that whoever watches knows that nothing is missed from now on
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
            self._count(name, -1)

    def _count(self, name: str, number: int) -> None:
        self._open[name] += number
        if not self._open[name]:
            del self._open[name]
        self._meters.streams(self._open.total())


Opened: TypeAlias = Annotated[Streams, Dependency(skip_validation=True)]


@get(
    "/watch",
    opt={"patient": True, "query": frozenset({"since"})},
    media_type="application/jsonl",
    summary="Watch revisions",
    responses=REFUSALS,
)
async def watch_revisions(
    facade: Service, caller: Who, streams: Opened, since: Annotated[int, QueryParameter(ge=0, le=LARGEST)]
) -> Stream:
    """Tell every revision after one, a line each, for ever. Only what one may read is told; empty lines mean nothing."""
    streams.require_room(caller.name)
    lines = streams.lines(caller.name, facade.watch(caller, since), SILENCE_SECONDS)
    return Stream(lines, media_type="application/jsonl")


watch = Router("/", route_handlers=[watch_revisions], tags=["Changes"])
