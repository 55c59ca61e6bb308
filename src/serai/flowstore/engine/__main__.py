"""The engine's process: ``python -m serai.flowstore.engine DIRECTORY``.

It is told its secrets by whoever starts it, as one line of JSON on its standard input, says its port in one line on its standard output,
and ends when its input does: it never outlives its controller.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

import uvicorn

from serai.flowstore.engine.http import Adapter
from serai.flowstore.engine.sessions import Sessions
from serai.serving import Server

READERS: Final = 4


async def serve(directory: Path, secrets: dict[str, str]) -> None:
    """Answer until the standard input ends, or SIGTERM comes.

    Raises:
        RuntimeError: the directory is in use by another process, or of no use.
    """
    sessions = Sessions(directory, readers=READERS)
    try:
        await sessions.write("SELECT 1", "CSV", {})
        server = Server(
            uvicorn.Config(
                Adapter(sessions, secrets), host="127.0.0.1", port=0, log_config=None, access_log=False, server_header=False,
                timeout_keep_alive=60, timeout_graceful_shutdown=2, lifespan="off",
            )
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, server)
        loop.add_reader(sys.stdin.fileno(), _look, server)
        serving = asyncio.create_task(server.serve())
        if await server.began(serving):
            port = server.servers[0].sockets[0].getsockname()[1]
            print(json.dumps({"port": port}), flush=True)  # noqa: T201 (its parent waits for it)
        await serving
    finally:
        sessions.close()


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _look(server: uvicorn.Server) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        _stop(server)


def main() -> None:
    """Begin."""
    directory = Path(sys.argv[1])
    secrets = json.loads(sys.stdin.buffer.readline())
    try:
        asyncio.run(serve(directory, secrets))
    except RuntimeError as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201 (as above)
        sys.exit(1)


if __name__ == "__main__":
    main()
