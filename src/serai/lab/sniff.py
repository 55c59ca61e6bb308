"""Count frames on the wires of a namespace, without eBPF: an independent witness of what passed."""

import ctypes
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

from serai.lab.error import LabError
from serai.lab.namespace import call_in_namespace

Direction = Literal["in", "out"]

_ALL_PROTOCOLS = 0x0003
_FRAME_MAX = 65535
_BUFFER_BYTES = 32 * 1024 * 1024
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_STATISTICS = struct.Struct("II")
_SO_ATTACH_FILTER = 26
# Classic BPF: load the interface's number (SKF_AD_OFF + SKF_AD_IFINDEX), compare it, return how much of the frame is wanted.
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_INTERFACE_NUMBER = 0xFFFFF000 + 8
_INSTRUCTION = struct.Struct("HBBI")
_POLL_MILLISECONDS = 100
_DRAIN_MILLISECONDS = 60
_DRAIN_SECONDS = 2.0
"""How long frames may still come while it stops: some go on for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameKey:
    """A class of frames that are counted together."""

    marker: bytes | None
    """The marker found in the frame; None for a frame that holds none of them."""
    interface: str
    direction: Direction
    """in: received by the interface (on a tap: sent by the guest); out: sent through it (on a tap: to the guest)."""


class FrameSniffer:
    """Counts every frame on every interface of one network namespace while its `with` block runs.

    The kernel shows a frame that comes in to the sniffer BEFORE any tc program judges it, and a frame that goes
    out AFTER: a forged frame that the gate drops is therefore counted as `in` on the guest's own tap, and must
    not be counted anywhere else (bridge, VXLAN, underlay, other taps).
    """

    def __init__(self, namespace: str, markers: Sequence[bytes], *, without: str = "") -> None:
        """Describe a sniffer in the network namespace called so that tells frames apart by these markers.

        What passes at the interface `without` is left out: a card that carries all else once more, in tunnels, and guests' memory.
        """
        self._namespace = namespace
        self._without = without
        self._markers = tuple(markers)
        self._counts: Counter[FrameKey] = Counter()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lost = 0

    def __enter__(self) -> Self:
        """Start counting. LabError when the namespace is not there."""
        self._socket = call_in_namespace(self._namespace, partial(_open, self._without))
        self._thread = threading.Thread(target=self._count, name=f"sniff-{self._namespace}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count what is still waiting, then stop. LabError when the kernel had to drop frames uncounted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._lost += _dropped(self._socket)
            self._socket.close()
        if self._lost and error is None:
            raise LabError(f"sniffer in {self._namespace} missed {self._lost} frames: its counts prove nothing")

    def counts(self) -> Mapping[FrameKey, int]:
        """Return the counts so far."""
        return dict(self._counts)

    def total(
        self, *, marker: bytes | None = None, interface: str | None = None, direction: Direction | None = None
    ) -> int:
        """Sum the marked frames that match all that is given; without a marker, those of all markers."""
        return sum(
            count
            for key, count in self.counts().items()
            if (key.marker is not None if marker is None else key.marker == marker)
            and interface in {None, key.interface}
            and direction in {None, key.direction}
        )

    def wait_for(self, marker: bytes, count: int, *, timeout_seconds: float = 5.0) -> bool:
        """Wait until count frames with this marker were seen, anywhere; False when that did not happen in time."""
        deadline = time.monotonic() + timeout_seconds
        while self.total(marker=marker) < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _count(self) -> None:
        source = self._socket
        if source is None:
            return
        poller = select.poll()
        poller.register(source, select.POLLIN)
        until = float("inf")
        while time.monotonic() < until:
            stopping = self._stop.is_set()
            if stopping:
                until = min(until, time.monotonic() + _DRAIN_SECONDS)
            if not poller.poll(_DRAIN_MILLISECONDS if stopping else _POLL_MILLISECONDS):
                if stopping:
                    return
                continue
            try:
                frame, address = source.recvfrom(_FRAME_MAX)
            except OSError:
                continue  # an interface went down
            marker = next((each for each in self._markers if each in frame), None)
            direction: Direction = "out" if address[2] == socket.PACKET_OUTGOING else "in"
            self._counts[FrameKey(marker=marker, interface=address[0], direction=direction)] += 1


def _open(without: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ALL_PROTOCOLS))
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    if without:
        _leave_out(opened, socket.if_nametoindex(without))
    return opened


def _leave_out(source: socket.socket, ifindex: int) -> None:
    instructions = (
        (_LOAD, 0, 0, _INTERFACE_NUMBER),
        (_JUMP_EQUAL, 0, 1, ifindex),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _FRAME_MAX),
    )
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in instructions))
    told = struct.pack("HP", len(instructions), ctypes.addressof(program))
    source.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)


def _dropped(source: socket.socket) -> int:
    _packets, drops = _STATISTICS.unpack(source.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
    return int(drops)
