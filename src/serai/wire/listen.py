"""Where a controller listens for agents."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from serai.wire.channel import PATH, QUIET, ROOM, TIMING, Channel, ChannelError, ControllerChannel, Room, Timing
from serai.wire.remote import AGENT_LIMIT, decode_from_agent


@contextlib.asynccontextmanager
async def listen(
    host: str,
    port: int,
    context: ssl.SSLContext,
    converse: Callable[[ControllerChannel], Awaitable[None]],
    *,
    timing: Timing = TIMING,
    room: Room = ROOM,
) -> AsyncIterator[int]:
    """Let agents in as ``context`` says, and ``converse`` with each; gives the port, which the system chooses where it is 0.

    When the context is left nobody is listened to any more, and all conversations are over.

    Raises:
        ChannelError: the address cannot be listened at.
    """

    async def handle(connection: ServerConnection) -> None:
        channel: ControllerChannel = Channel(connection, decode_from_agent, timing=timing, room=room)
        async with channel:
            await converse(channel)

    def look(connection: ServerConnection, request: Any) -> Any:  # noqa: ANN401  (the library's own types say no more)
        return None if request.path == PATH else connection.respond(404, "Agents are not listened to here.\n")

    try:
        server = await serve(
            handle,
            host,
            port,
            ssl=context,
            process_request=look,
            compression=None,
            server_header=None,
            open_timeout=timing.open_seconds,
            close_timeout=timing.close_seconds,
            ping_interval=None,
            max_size=AGENT_LIMIT,
            logger=QUIET,
        )
    except OSError as error:
        raise ChannelError(f"agents cannot be listened to at {host}:{port}: {error.strerror or error}") from error
    try:
        yield next(_ports(server.sockets))
    finally:
        server.close()
        await server.wait_closed()


def _ports(sockets: Any) -> Iterator[int]:  # noqa: ANN401  (asyncio's transport sockets, which have no public type)
    for each in sockets:
        yield each.getsockname()[1]
