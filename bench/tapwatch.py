"""When frames passed at a tap, by the kernel's clock: an account of a gate that the gate has no part in."""

from __future__ import annotations

import dataclasses
import functools
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Self

from serai.lab.namespace import call_in_namespace

_ALL_PROTOCOLS: Final = 0x0003
_OUTGOING: Final = 4
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_BUFFER_BYTES: Final = 64 << 20
_HEAD_BYTES: Final = 256
_TIME: Final = struct.Struct("qq")


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One frame."""

    ns: int
    """Nanoseconds since 1970; one kernel, one clock."""
    to_vm: bool
    """It has passed the gate and goes to the VM; otherwise the VM has sent it, and the gate has not seen it yet."""
    marked: bool
    """It carries the mark that was asked for."""


class TapWatch:
    """Takes down every frame at one tap while the block runs."""

    def __init__(self, namespace: str, tap: str, mark: bytes) -> None:
        """Begin to listen at once: what comes before the block begins waits."""
        self.tap = tap
        self.frames: list[Frame] = []
        self._mark = mark
        self._socket = call_in_namespace(namespace, functools.partial(_open, tap))
        self._over = threading.Event()
        self._until = 0
        self._thread = threading.Thread(target=self._watch, name=f"watch-{tap}", daemon=True)

    def __enter__(self) -> Self:
        """Begin to take down."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take down what has come until now. RuntimeError when frames came too fast."""
        self._until = time.time_ns()
        self._over.set()
        self._thread.join()
        _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()
        if lost and error is None:
            raise RuntimeError(
                f"{lost} frames at {self.tap} came too fast to be taken down: the account proves nothing"
            )

    def _watch(self) -> None:
        while True:
            try:
                raw, more, _, where = self._socket.recvmsg(_HEAD_BYTES, 64)
            except TimeoutError:
                if self._over.is_set():
                    return
                continue
            except OSError:
                continue  # the tap has gone; what it had to tell comes before that
            stamps = [data for level, kind, data in more if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
            seconds, ns = _TIME.unpack(stamps[0])
            frame = Frame(seconds * 1_000_000_000 + ns, where[2] == _OUTGOING, self._mark in raw)
            if self._over.is_set() and frame.ns > self._until:
                return
            self.frames.append(frame)


def _open(tap: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.bind((tap, _ALL_PROTOCOLS))
    opened.settimeout(0.2)
    return opened
