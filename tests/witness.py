"""Counts what passes at an interface, flow by flow, and knows nothing of gates: what records say is compared with it.

Segments are counted as they are on a wire: the kernel tells the size of each beside a super-segment (PACKET_VNET_HDR). What a gate
does not let through to a VM is not seen; what it drops of what a VM sends is.
"""

from __future__ import annotations

import collections
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from frames import ICMP, TCP, UDP
from test_taps import SO_RCVBUFFORCE

_SOL_PACKET, _PACKET_STATISTICS, _PACKET_VNET_HDR, _OUTGOING = 263, 6, 15, 4
_ROOM = 256 << 20
_LONGEST = 1 << 19

Flow = tuple[int, str, int, int]
"""Protocol, the other end's address, the VM's port, the other end's (of pings: none)."""
Seen = dict[Flow, list[int]]
"""Packets and bytes from the VM, then to it."""


def _here(make: Callable[[], socket.socket]) -> socket.socket:
    return make()


class Witness:
    """Counts what passes at an interface, and knows nothing of gates."""

    def __init__(
        self, interface: str, *, within: Callable[[Callable[[], socket.socket]], socket.socket] = _here
    ) -> None:
        """Open a socket at once, ``within`` another network namespace; it is read while the block runs."""
        self.flows: Seen = collections.defaultdict(lambda: [0, 0, 0, 0])
        self._pieces: dict[tuple[str, str, int], Flow] = {}
        self._socket = within(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _ROOM)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.bind((interface, 0x0003))
        self._socket.settimeout(0.3)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()
        seen, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()
        assert not dropped, f"{dropped} of {seen} frames came too fast for the witness"

    def _watch(self) -> None:
        while True:
            try:
                raw, where = self._socket.recvfrom(_LONGEST)
            except TimeoutError:
                if self._enough.is_set():  # and nothing is left
                    return
                continue
            except OSError:  # the interface is gone; what it had to tell before that waits
                continue
            self._count(raw[:10], raw[10:], outgoing=where[2] == _OUTGOING)

    def _count(self, header: bytes, frame: bytes, *, outgoing: bool) -> None:
        found = self._flow(frame, to_vm=outgoing)
        if found is None:
            return
        flow, headers = found
        _, kind, _, segment = struct.unpack("<BBHH", header[:6])
        packets = -(-(len(frame) - headers) // segment) if kind and segment else 1
        counts = self.flows[flow]
        counts[2 * outgoing] += packets
        counts[2 * outgoing + 1] += len(frame)

    def _flow(self, frame: bytes, *, to_vm: bool) -> tuple[Flow, int] | None:
        ether, body = frame[12:14], frame[14:]
        if ether == b"\x08\x00":
            at, protocol = (body[0] & 15) * 4, body[9]
            ends = [socket.inet_ntop(socket.AF_INET, body[12 + 4 * end : 16 + 4 * end]) for end in (0, 1)]
            number, piece = struct.unpack(">HH", body[4:8])
            offset, more = piece & 0x1FFF, piece >> 13 & 1
        elif ether == b"\x86\xdd":
            at, protocol, offset, more, number = 40, body[6], 0, 0, 0
            ends = [socket.inet_ntop(socket.AF_INET6, body[8 + 16 * end : 24 + 16 * end]) for end in (0, 1)]
            if protocol == 0:  # a jumbo option (RFC 2675), in front of segments that no length field can tell
                protocol, at = body[40], 48
            if protocol == 44:
                protocol = body[40]
                piece, number = struct.unpack(">HI", body[42:48])
                offset, more, at = piece >> 3, piece & 1, 48
        else:
            return None
        key = (ends[0], ends[1], number)
        if offset:
            return self._pieces[key], 14 + at
        remote = ends[0] if to_vm else ends[1]
        if protocol in {TCP, UDP}:
            ports = struct.unpack(">HH", body[at : at + 4])
            mine, theirs = reversed(ports) if to_vm else ports
            length = (body[at + 12] >> 4) * 4 if protocol == TCP else 8
            flow = protocol, remote, mine, theirs
        elif body[at] in ({0, 8} if protocol == ICMP else {128, 129}):
            flow, length = (protocol, remote, 0, 0), 8
        else:
            return None  # what finds neighbors has no flow
        if more:
            self._pieces[key] = flow
        return flow, 14 + at + length
