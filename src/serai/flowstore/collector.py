"""Sends IPFIX messages to a collector, over UDP or TCP (RFC 7011, 10.3 and 10.4)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import pyarrow as pa

from serai.analysis.export.ipfix import PORT, TCP_BYTES, UDP_BYTES, Piece, Session, encode
from serai.analysis.export.names import Names

_AGAIN_SECONDS, _AGAIN_MESSAGES = 60.0, 1000
"""How often templates are told again over UDP: a collector that starts anew waits no longer for them."""
_BURST, _BURST_SECONDS = 16, 0.004
"""Messages in a row, and the rest after them: a socket has room for some ninety unless its collector asks for more, and what does not fit in is lost."""
_DOUBT_SECONDS: Final = 0.05
"""How long to wait for the answer that nobody is there, before the first records."""
_CONNECT_SECONDS, _DRAIN_SECONDS, _CLOSE_SECONDS = 5.0, 10.0, 1.0

Clock = Callable[[], float]


def collector_of(url: str, clock: Clock) -> Udp | Tcp:
    """Read ``udp://HOST:PORT`` or ``tcp://HOST:PORT``; without a port it is IPFIX's own, 4739.

    Raises:
        ValueError: that is none.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or PORT
    except ValueError as error:
        raise ValueError(f"{url!r} has no good port: {error}") from error
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in {"udp", "tcp"} or not host or rest:
        raise ValueError(
            f"{url!r} is no IPFIX collector: write udp://HOST:PORT or tcp://HOST:PORT, such as udp://collector:{PORT}"
        )
    return Udp(host, port, clock=clock) if parts.scheme == "udp" else Tcp(host, port, clock=clock)


class Udp:
    """A collector that messages are thrown at: what is lost on the way is seen by nobody but the collector."""

    most_bytes: Final = UDP_BYTES

    def __init__(self, host: str, port: int, *, clock: Clock) -> None:
        """Look for nobody yet."""
        self._host, self._port, self._clock = host, port, clock
        self._session = _datagrams()
        self._socket: socket.socket | None = None
        self._doubtful = True
        self._row = 0

    def prepare(self, table: pa.Table, names: Names) -> tuple[Sequence[Piece], int]:
        """See ``Target``: frames that are not IP are not told."""
        return _pieces(table, names, self.most_bytes)

    async def send(self, piece: Piece) -> None:
        """See ``Target``."""
        to = self._socket or await self._open()
        now = self._clock()
        if self._session.due(piece.host, now):
            await self._put(to, self._session.introduction(piece.host, now))
            self._session.introduced(piece.host, now)
            if self._doubtful:
                await asyncio.sleep(_DOUBT_SECONDS)
        await self._put(to, self._session.message(piece, now))
        self._doubtful = False
        self._session.sent(piece)

    async def _open(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        fresh = socket.socket(family, kind, protocol)
        try:
            fresh.setblocking(False)
            fresh.connect(address)
        except OSError:
            fresh.close()
            raise
        self._socket = fresh
        return fresh

    async def _put(self, to: socket.socket, message: bytes) -> None:
        self._row = (self._row + 1) % _BURST
        if not self._row:
            await asyncio.sleep(_BURST_SECONDS)
        while True:
            try:
                to.send(message)
            except BlockingIOError:
                await asyncio.sleep(_BURST_SECONDS)
            else:
                return

    async def away(self) -> None:
        """See ``Target``. The socket stays, and with it the session and its numbers."""
        self._session.forget()
        self._doubtful = True

    async def close(self) -> None:
        """See ``Target``."""
        if self._socket:
            self._socket.close()
            self._socket = None
        # The next socket has another port, which makes another session: what was told in this one nobody knows there.
        self._session, self._doubtful = _datagrams(), True


class Tcp:
    """A collector that is connected to. What was on its way when a connection breaks is lost: IPFIX has no receipts."""

    most_bytes: Final = TCP_BYTES

    def __init__(self, host: str, port: int, *, clock: Clock) -> None:
        """Connect to nobody yet."""
        self._host, self._port, self._clock = host, port, clock
        self._session = Session()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def prepare(self, table: pa.Table, names: Names) -> tuple[Sequence[Piece], int]:
        """See ``Target``: frames that are not IP are not told."""
        return _pieces(table, names, self.most_bytes)

    async def send(self, piece: Piece) -> None:
        """See ``Target``."""
        reader, writer = self._streams or await self._connect()
        if reader.at_eof() or writer.is_closing():
            raise ConnectionResetError("the collector has closed the connection")
        now = self._clock()
        if self._session.due(piece.host, now):
            writer.write(self._session.introduction(piece.host, now))
            self._session.introduced(piece.host, now)
        writer.write(self._session.message(piece, now))
        async with asyncio.timeout(_DRAIN_SECONDS):
            await writer.drain()
        self._session.sent(piece)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_SECONDS):
            self._streams = await asyncio.open_connection(self._host, self._port)
        self._streams[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._session = Session()
        return self._streams

    async def away(self) -> None:
        """See ``Target``. The next piece connects anew."""
        if self._streams:
            self._streams[1].transport.abort()
            self._streams = None

    async def close(self) -> None:
        """See ``Target``. What is on its way goes first."""
        if not self._streams:
            return
        writer = self._streams[1]
        writer.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await writer.wait_closed()
        except OSError:
            writer.transport.abort()
        self._streams = None


def _datagrams() -> Session:
    return Session(again_seconds=_AGAIN_SECONDS, again_messages=_AGAIN_MESSAGES)


def _pieces(table: pa.Table, names: Names, most_bytes: int) -> tuple[Sequence[Piece], int]:
    found = encode(table, names)
    return [piece for stream in found.streams for piece in stream.cut(most_bytes)], found.left_out
