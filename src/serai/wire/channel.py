"""Typed messages over a WebSocket (``remote.py``): both ends, and what must hold of the connection whoever is at the other one.

An end that is silent, stuck or too talkative costs its own connection, within seconds, and nobody else's; what waits to be sent
to it is bounded. A message is sent in pieces, so that the signs of life find their way between them on a slow line.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeVar

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed, WebSocketException

from serai.wire.remote import (
    MESSAGE_LIMIT,
    FromAgent,
    FromController,
    MessageError,
    encode,
)
from serai.wire.tls import explain

PATH: Final = "/agents"
"""Where agents are listened to; all else is nothing."""

_PIECE: Final = 64 * 1024
_UNSENT: Final = 128 * 1024
"""Bytes that the kernel takes over before it has sent them: what comes after is not long in coming."""
_ANSWERS: Final = 256 * 1024
"""Bytes that the answers to somebody's pings may pile up to: beyond, the pings are meant to do harm."""
_OUR_WORDS: Final = frozenset({1002, 1003, 1007, 1009})
"""What the library closes with when what comes breaks the rules (RFC 6455, 7.4.1)."""
_REASON_BYTES: Final = 123
_GOODBYE: Final = 1000

QUIET: Final = logging.getLogger(__name__)
"""What the library would log goes nowhere: what goes wrong is told by who uses the channel, once and in its words."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

In = TypeVar("In")
Out = TypeVar("Out", bound=FromAgent | FromController)


class ChannelError(RuntimeError):
    """There is no connection, or none any more; the message says why."""

    def __init__(self, why: str, *, code: int | None = None, refused: bool = False) -> None:
        """Say why, and what the other end has closed with, or whether it did so before a word was said."""
        super().__init__(why)
        self.code = code
        self.refused = refused
        """It does not accept our certificate, as far as can be told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long what may take. An end that says nothing is noticed within ``beat_seconds`` * 1.5 + ``dead_seconds``."""

    open_seconds: float = 10.0
    close_seconds: float = 1.0
    beat_seconds: float = 3.0
    """How often a sign of life is asked for."""
    dead_seconds: float = 6.0
    """How long a sign of life, or room for the next piece of a message, is waited for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much may wait to be sent to one other end."""

    messages: int = 64
    bytes: int = MESSAGE_LIMIT


TIMING: Final = Timing()
ROOM: Final = Room()


class Channel(Generic[In, Out]):
    """A conversation. Use it in ``async with``: when that is left the connection is closed and nothing of it goes on."""

    def __init__(self, connection: Connection, decode: Callable[[bytes], In], *, timing: Timing, room: Room) -> None:
        """Speak over ``connection``, which is open."""
        self._connection = connection
        self._decode = decode
        self._timing = timing
        self._room = room
        self._waiting: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._why: str | None = None
        self._closing: tuple[int, str] | None = None
        self._heard = 0.0
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Channel[In, Out]:
        """Begin to send, and to ask for signs of life."""
        _expect_little(self._connection)
        self._heard = self._loop.time()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._ask())]
        self._look()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it: politely for a second, then anyhow."""
        if self._looking:
            self._looking.cancel()
        try:
            async with asyncio.timeout(self._timing.close_seconds):
                if self._closing is None:
                    self.close("")
                if self._why is None:
                    await self._tasks[0]  # what was sent before, and the goodbye
        except TimeoutError:
            pass
        finally:
            self._connection.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def peer_certificate(self) -> bytes:
        """What the other end has shown, as DER; TLS has checked who signed it."""
        tls: ssl.SSLObject | None = self._connection.transport.get_extra_info("ssl_object")
        return (tls.getpeercert(binary_form=True) if tls else None) or b""

    @property
    def local_address(self) -> str:
        """By which of this machine's addresses the other end is reached; empty where that is not known."""
        name = self._connection.transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else ""

    def send(self, message: Out) -> None:
        """Have ``message`` sent, after those before it. Nobody waits; whoever does not take what is sent is cut off.

        Raises:
            ChannelError: the other end is stuck, or gone.
        """
        if self._closing:
            raise ChannelError(self._closing[1])
        raw = encode(message)
        full = len(self._waiting) >= self._room.messages or (
            self._waiting and self._bytes + len(raw) > self._room.bytes
        )
        if full:
            self._abort("it does not take what is sent to it")
        if self._why is not None:
            raise ChannelError(self._why)
        self._waiting.append(raw)
        self._bytes += len(raw)
        self._woken.set()

    def close(self, reason: str, code: int = _GOODBYE) -> None:
        """Have it ended after what has been sent so far; ``receive`` raises then."""
        if self._closing is None:
            self._closing = code, _short(reason)
            self._woken.set()

    def cut(self, reason: str) -> None:
        """Have it ended at once: what has been sent may not arrive."""
        self.close(reason)
        self._abort(reason)

    async def receive(self) -> In:
        """Wait for the next message. Once it has been cancelled the conversation is over: half a message may be lost.

        Raises:
            ChannelError: there is none to come.
            MessageError: what came is no message that may come here.
        """
        pieces = []
        try:
            async for piece in self._connection.recv_streaming():
                self._heard = self._loop.time()
                pieces.append(piece)
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code in _OUR_WORDS and not error.rcvd_then_sent:
                raise MessageError(f"this is no message: {error.sent.reason}") from error
            raise self._ended(error) from error
        except WebSocketException as error:
            raise MessageError(f"this is no message: {error}") from error
        if not all(isinstance(piece, bytes) for piece in pieces):
            raise MessageError("this is no message: it is text")
        return self._decode(b"".join(piece for piece in pieces if isinstance(piece, bytes)))

    def _ended(self, error: ConnectionClosed) -> ChannelError:
        rcvd, sent, cause = error.rcvd, error.sent, error.__cause__
        if self._why is not None:
            why = self._why
        elif rcvd is not None and (rcvd.reason or rcvd.code != _GOODBYE):
            why = f"it has ended the conversation: {rcvd.reason or f'code {rcvd.code}'}"
        elif isinstance(cause, ssl.SSLError):
            why = f"TLS has failed: {explain(cause)}"
        else:
            why = (sent.reason if sent else "") or "the connection is gone"
        return ChannelError(why, code=rcvd.code if rcvd else None)

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._waiting:
                    raw = self._waiting[0]
                    await self._connection.send(self._pieces(raw))
                    self._waiting.popleft()
                    self._bytes -= len(raw)
                if self._closing:
                    await self._connection.close(*self._closing)
                    return
                self._woken.clear()
                await self._woken.wait()

    async def _pieces(self, raw: bytes) -> AsyncIterator[bytes]:
        """Cut a message up; each piece must find room in time after the one before."""
        for at in range(0, len(raw), _PIECE):
            stuck = self._loop.call_later(self._timing.dead_seconds, self._abort, "it is stuck")
            try:
                yield raw[at : at + _PIECE]
            finally:
                stuck.cancel()

    async def _ask(self) -> None:
        """Ask for signs of life. That may itself wait for room, so that somebody else must look at the clock: ``_look``."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._timing.beat_seconds)
                await (await self._connection.ping())
                self._heard = self._loop.time()

    def _look(self) -> None:
        if self._connection.transport.get_write_buffer_size() > _ANSWERS:
            self._abort("it asks for more signs of life than it takes")
        elif self._loop.time() - self._heard > self._timing.beat_seconds + self._timing.dead_seconds:
            self._abort("it gives no sign of life")
        else:
            self._looking = self._loop.call_later(self._timing.beat_seconds / 2, self._look)

    def _abort(self, why: str) -> None:
        if self._why is None:
            self._why = why
        self._connection.transport.abort()


AgentChannel = Channel[FromController, FromAgent]
"""An agent's end."""
ControllerChannel = Channel[FromAgent, FromController]
"""A controller's end."""


def _expect_little(connection: Connection) -> None:
    """Keep the kernel from taking in much more than it sends: what is stuck shows at once."""
    plain = connection.transport.get_extra_info("socket")
    if plain is not None and plain.family in {socket.AF_INET, socket.AF_INET6}:
        plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25), _UNSENT)


def _short(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")
