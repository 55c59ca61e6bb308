"""Starts an agent in this process."""

from __future__ import annotations

import asyncio
import os
import signal

import structlog

from serai import journal
from serai.agent import footprint
from serai.agent.config import Config
from serai.agent.runtime import Runtime


def main(config: Config) -> None:
    """Guard this host until SIGTERM or SIGINT. The gates stay and go on enforcing.

    Raises:
        AgentBusyError: another agent guards this host.
        KernelError: the kernel refuses the gate.
        JournalError: SERAI_LOG_LEVEL is no level.
    """
    footprint.keep_small()
    journal.configure(os.environ)
    asyncio.run(_until_told(Runtime(config)))


async def _until_told(runtime: Runtime) -> None:
    running = asyncio.create_task(runtime.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        structlog.get_logger(__name__).info("agent stops; the gates stay")
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
