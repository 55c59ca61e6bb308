"""An agent's way to a controller."""

from __future__ import annotations

import ssl

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from serai.wire.channel import PATH, QUIET, ROOM, TIMING, AgentChannel, Channel, ChannelError, Room, Timing
from serai.wire.remote import MESSAGE_LIMIT, decode_from_controller
from serai.wire.tls import explain, says_expired


class _Straight(connect):
    """Goes where it is told to: to no proxy, and to nowhere else that the answer names."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def dial(url: str, context: ssl.SSLContext, *, timing: Timing = TIMING, room: Room = ROOM) -> AgentChannel:
    """Connect to a controller, ``wss://name:port``.

    Raises:
        ChannelError: nobody answers there, or not who should.
    """
    try:
        connection = await _Straight(
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
    except ssl.SSLError as error:
        raise ChannelError(f"{url}: TLS has failed: {explain(error)}", expired=says_expired(error)) from error
    except TimeoutError as error:
        raise ChannelError(f"{url}: nobody answers in {timing.open_seconds:g} s") from error
    except OSError as error:
        raise ChannelError(f"{url}: {error.strerror or error}") from error
    except (WebSocketException, ValueError) as error:
        cause = error.__cause__
        expired = cause is not None and says_expired(cause)
        raise ChannelError(f"{url}: this is no controller: {error}", expired=expired) from error
    return Channel(connection, decode_from_controller, timing=timing, room=room)
