"""Starts the embedded engine, and ends it with its controller."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from serai.flowstore.engine.http import READER, WRITER

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 20.0
_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class EngineError(RuntimeError):
    """The flow store cannot be used; the message says why, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an engine answers, and as whom."""

    host: str
    port: int
    reader: str
    """A reader's secret."""
    writer: str
    secure: bool = False
    reader_name: str = READER
    writer_name: str = WRITER


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running one."""

    address: Address
    process: asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def engine(directory: Path) -> AsyncIterator[Engine]:
    """Run an engine over ``directory`` until this is left.

    Raises:
        EngineError: it does not start: another one has the directory, or it is of no use.
    """
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EngineError(f"{directory} cannot be made: {error.strerror or error}") from error
    told = {user: secrets.token_urlsafe(24) for user in (READER, WRITER)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "serai.flowstore.engine", str(directory), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env={**_ENV, "PYTHONPATH": ":".join(filter(None, sys.path))}, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None  # noqa: S101 (as asked for)
    assert process.stdout is not None  # noqa: S101
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(told).encode() + b"\n")
            await process.stdin.drain()
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = json.loads(await process.stdout.readline() or b"{}")
        except TimeoutError:
            raise EngineError(f"the engine over {directory} does not start within {_START_SECONDS:.0f} s") from None
        if "port" not in said:
            why = said.get("error", "it ends at once").strip().splitlines()[0]
            raise EngineError(f"the engine over {directory} does not start: {why}")
        address = Address(host="127.0.0.1", port=said["port"], reader=told[READER], writer=told[WRITER])
        yield Engine(address=address, process=process)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
