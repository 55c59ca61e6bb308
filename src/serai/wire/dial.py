"""An agent's way to a controller."""

from __future__ import annotations

import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from serai.wire.channel import PATH, QUIET, ROOM, TIMING, AgentChannel, Channel, ChannelError, Room, Timing
from serai.wire.remote import MESSAGE_LIMIT, decode_from_controller
from serai.wire.tls import explain


class _Straight(connect):
    """Goes where it is told to: to no proxy, and to nowhere else that the answer names."""

    opened: ClientConnection | None = None

    async def open_tcp_connection(self) -> ClientConnection:
        self.opened = await super().open_tcp_connection()
        return self.opened

    def process_redirect(self, exc: Exception) -> Exception:
        return exc

    @property
    def refusal(self) -> str:
        """Why the other end does not want us, where it has gone before it said a word.

        With TLS 1.3 our end is through with the handshake before the other one has looked at our certificate.
        """
        if self.opened is None or self.opened.response is not None:
            return ""
        broken = self.opened.connection_exc
        return explain(broken) if isinstance(broken, ssl.SSLError) else "it says nothing to this host's certificate"


async def dial(url: str, context: ssl.SSLContext, *, timing: Timing = TIMING, room: Room = ROOM) -> AgentChannel:
    """Connect to a controller, ``wss://name:port``.

    Raises:
        ChannelError: nobody answers there, or not who should.
    """
    try:
        way = _Straight(
            f"{url.rstrip('/')}{PATH}",
            ssl=context,
            proxy=None,
            compression=None,
            user_agent_header=None,
            open_timeout=timing.open_seconds,
            close_timeout=timing.close_seconds,
            ping_interval=None,
            max_size=MESSAGE_LIMIT,
            logger=QUIET,
        )
    except (WebSocketException, ValueError) as error:
        raise ChannelError(f"{url} is no address of a controller: write wss://NAME:PORT") from error
    try:
        connection = await way
    except ssl.SSLError as error:
        raise ChannelError(f"{url}: TLS has failed: {explain(error)}") from error
    except TimeoutError as error:
        raise ChannelError(f"{url}: nobody answers in {timing.open_seconds:g} s") from error
    except OSError as error:
        raise ChannelError(f"{url}: {error.strerror or str(error) or 'it ends the connection'}") from error
    except WebSocketException as error:
        if way.refusal:
            raise ChannelError(f"{url}: it does not let us in: {way.refusal}", refused=True) from error
        raise ChannelError(f"{url}: this is no controller: {error}") from error
    return Channel(connection, decode_from_controller, timing=timing, room=room)
