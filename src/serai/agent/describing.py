"""Finds out, now and then, what this host is made of."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

import structlog

from serai.model.host_facts import HostFacts

_log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 300.0
"""How often one looks whether something is otherwise."""
RETRY_SECONDS: Final = 10.0
"""How often while nobody says, or nobody wants to know."""


class Describer:
    """Looks, and tells."""

    def __init__(
        self, collect: Callable[[], HostFacts], told: Callable[[HostFacts], None], *, wanted: Callable[[], bool]
    ) -> None:
        """Have ``told`` called with what ``collect`` finds, which may take seconds, as long as that is ``wanted``."""
        self._collect, self._told, self._wanted = collect, told, wanted

    async def run(self) -> None:
        """Do so until cancelled. Nothing of this host waits for it."""
        trouble = ""
        while True:
            pause = RETRY_SECONDS
            if self._wanted():
                try:
                    self._told(await _aside(self._collect))
                except Exception as error:  # noqa: BLE001 (whatever it is, gates must not pay for it)
                    if str(error) != trouble:
                        _log.warning("what this host is made of cannot be found out", error=str(error))
                    trouble = str(error)
                else:
                    trouble, pause = "", AGAIN_SECONDS
            await asyncio.sleep(pause)


async def _aside(job: Callable[[], HostFacts]) -> HostFacts:
    """Do it in a thread that nobody waits for at the end: libvirt may take its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[HostFacts] = loop.create_future()

    def settle(found: HostFacts | Exception) -> None:
        if not done.done():
            done.set_exception(found) if isinstance(found, Exception) else done.set_result(found)

    def work() -> None:
        try:
            found: HostFacts | Exception = job()
        except Exception as error:  # noqa: BLE001 (it is raised where it is waited for)
            found = error
        with contextlib.suppress(RuntimeError):  # the agent has ended
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name="describer", daemon=True).start()
    return await done
