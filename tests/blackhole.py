"""A proxy on the loopback that behaves like a bad network: slow, silent, or broken off in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import AsyncIterator

_CHUNK = 16 * 1024


class Mode(enum.Enum):
    """How it treats what goes through it."""

    PASS = enum.auto()
    SLOW = enum.auto()
    """``rate`` bytes a second, each way."""
    HOLE = enum.auto()
    """Takes nothing and says nothing; connections stay open."""


class Proxy:
    """Between a client and ``127.0.0.1:target``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = Mode.PASS
        self.rate = 64 * 1024
        self.port = 0
        self.passed = {"up": 0, "down": 0}
        """Bytes, from and to the client."""
        self.connections = 0
        self._cut_after: dict[str, int] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._turned = asyncio.Event()

    def turn(self, mode: Mode) -> None:
        """Behave otherwise from now on."""
        self.mode = mode
        self._turned.set()
        self._turned = asyncio.Event()

    def cut(self) -> None:
        """Break all connections off now."""
        for writer in list(self._writers):
            writer.transport.abort()

    def cut_after(self, amount: int, way: str = "down") -> None:
        """Break all connections off when so many more bytes have gone that way: in the middle of a message, say."""
        self._cut_after[way] = self.passed[way] + amount

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                while self.mode is Mode.HOLE:
                    await self._turned.wait()
                size = _CHUNK if self.mode is Mode.PASS else max(1, min(_CHUNK, self.rate // 20))
                data = await reader.read(size)
                while self.mode is Mode.HOLE:  # it fell in on the way
                    await self._turned.wait()
                if not data:
                    break
                limit = self._cut_after.get(way)
                if limit is not None and self.passed[way] + len(data) >= limit:
                    writer.write(data[: limit - self.passed[way]])
                    await writer.drain()
                    del self._cut_after[way]
                    self.cut()
                    return
                self.passed[way] += len(data)
                writer.write(data)
                await writer.drain()
                if self.mode is Mode.SLOW:
                    await asyncio.sleep(len(data) / self.rate)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.mode is Mode.HOLE:
            await self._turned.wait()
        try:
            far = _socket()
            await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self.target))
            far_reader, far_writer = await asyncio.open_connection(sock=far, limit=_CHUNK)
        except OSError:
            far.close()
            writer.transport.abort()
            return
        mine = {writer, far_writer}
        self._writers |= mine
        try:
            await asyncio.gather(self._pump(reader, far_writer, "up"), self._pump(far_reader, writer, "down"))
        finally:
            for each in mine:
                each.transport.abort()
            self._writers -= mine


def _socket() -> socket.socket:
    """Of little memory, as a line is: what is not forwarded is not taken either."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
    made.setblocking(False)
    return made


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Stand in front of a port of this machine."""
    made = Proxy(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    near = _socket()
    near.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(accept, sock=near, limit=_CHUNK)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
