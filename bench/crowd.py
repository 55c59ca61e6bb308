"""A crowd of open TCP connections to one guest, each of which says a number now and then and waits for its echo."""

from __future__ import annotations

import dataclasses
import errno
import selectors
import socket
import struct
import threading
import time
from ipaddress import IPv4Address
from types import TracebackType
from typing import Final, Self

from serai.lab.namespace import call_in_namespace

ECHO_PORT: Final = 7777
_CONNECT_SECONDS: Final = 60.0
_AT_ONCE: Final = 50
"""Connections that are opened at the same time: an emulated guest takes its time with each."""
_NUMBER: Final = struct.Struct("!Q")


@dataclasses.dataclass(slots=True)
class _Connection:
    stream: socket.socket
    said: int = 0
    heard: int = 0
    due: float = 0.0
    rest: bytes = b""
    lost: str = ""


class CrowdError(RuntimeError):
    """The crowd could not come together."""


class Crowd:
    """Some connections from a namespace to a guest's echo service, kept in a thread while the block runs."""

    def __init__(self, namespace: str, address: IPv4Address, count: int, *, every_seconds: float) -> None:
        """Describe the crowd: so many connections, each of which speaks so often."""
        self._namespace, self._target, self._count, self._every = (
            namespace,
            (str(address), ECHO_PORT),
            count,
            every_seconds,
        )
        self._connections: list[_Connection] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        """Open all connections. CrowdError when one cannot be."""
        began = time.monotonic()
        while len(self._connections) < self._count:
            if time.monotonic() - began > _CONNECT_SECONDS * 5:
                raise CrowdError(f"only {len(self._connections)} of {self._count} connections could be opened")
            self._connections += call_in_namespace(self._namespace, self._open)
        now = time.monotonic()
        for number, each in enumerate(self._connections):
            each.due = now + self._every * number / self._count
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        self._over.set()
        self._thread.join()
        for each in self._connections:
            each.stream.close()

    def lost(self, *, patience_seconds: float) -> list[str]:
        """Wait until every connection has been answered all that it has said by now, and say why each other one is lost."""
        said = [(each, each.said) for each in self._connections]
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline and any(not e.lost and e.heard < number for e, number in said):
            time.sleep(0.05)
        return [each.lost or "silent" for each, number in said if each.lost or each.heard < number]

    @property
    def echoes(self) -> int:
        """How many numbers have come back."""
        return sum(each.heard for each in self._connections)

    def _open(self) -> list[_Connection]:
        """Open some more."""
        count = min(_AT_ONCE, self._count - len(self._connections))
        streams = [socket.socket() for _ in range(count)]
        for stream in streams:
            stream.setblocking(False)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (code := stream.connect_ex(self._target)) not in {0, errno.EINPROGRESS}:
                raise CrowdError(f"cannot connect: {errno.errorcode.get(code, code)}")
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                selector.register(stream, selectors.EVENT_WRITE)
            opened: list[_Connection] = []
            deadline = time.monotonic() + _CONNECT_SECONDS
            while len(opened) < count and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    stream = next(each for each in streams if each is key.fileobj)
                    selector.unregister(stream)
                    if code := stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise CrowdError(f"cannot connect: {errno.errorcode.get(code, code)}")
                    opened.append(_Connection(stream))
        if len(opened) < count:
            raise CrowdError(f"{count - len(opened)} connections were not answered in {_CONNECT_SECONDS:.0f} s")
        return opened

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in self._connections:
                selector.register(each.stream, selectors.EVENT_READ, each)
            while not self._over.is_set():
                for key, _ in selector.select(0.02):
                    self._hear(key.data)
                    if key.data.lost:
                        selector.unregister(key.fileobj)
                self._speak()

    def _speak(self) -> None:
        now = time.monotonic()
        for each in self._connections:
            if each.due <= now and not each.lost:
                each.due = now + self._every
                try:
                    each.stream.send(_NUMBER.pack(each.said + 1))
                    each.said += 1
                except BlockingIOError:
                    pass  # it has not taken what was said before
                except OSError as error:
                    each.lost = str(error)

    def _hear(self, each: _Connection) -> None:
        try:
            raw = each.stream.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            each.lost = str(error)
            return
        if not raw:
            each.lost = "closed"
        each.rest += raw
        while len(each.rest) >= _NUMBER.size:
            (number,), each.rest = _NUMBER.unpack_from(each.rest), each.rest[_NUMBER.size :]
            if number != each.heard + 1:
                each.lost = f"{number} came back instead of {each.heard + 1}"
            each.heard = number
