"""Runs ``load.c`` between two VMs' ends: how much CPU an operation takes."""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from bench.topology import Pair

KINDS: Final = ("tcp_bulk", "udp64", "rr", "crr", "newflow")
"""Bulk bytes over TCP, 64-byte UDP frames of one flow, request and response on one connection, connect / request /
close, and frames that each begin a flow."""

OPERATIONS: Final = {"tcp_bulk": 4000, "udp64": 12_000, "rr": 2400, "crr": 600, "newflow": 12_000}
"""Of one attempt: a tenth of a second at the most, without a filter. A bulk operation is 128 KiB."""

_ATTEMPTS: Final = 5

_SOURCE: Final = Path(__file__).with_name("load.c")
_FIRST_PORT, _PORTS = 5000, 1000  # those that tenants' clients may use


class TrafficError(RuntimeError):
    """Packets were lost, or the generator cannot run."""


class Traffic:
    """The generator, compiled, and the ends that it drives."""

    def __init__(self, sockets: Pair, taps: Pair) -> None:
        """Compile it.

        Args:
            sockets: ends with namespaces, for all kinds but ``newflow``.
            taps: ends that are bare taps, for ``newflow``.
        """
        self._sockets, self._taps = sockets, taps
        self._program = _compile()
        # The last processor: the first tends to serve the machine's interrupts.
        self._cpu = max(os.sched_getaffinity(0))
        self._ksoftirqd = _find_thread(f"ksoftirqd/{self._cpu}")
        self._ports = itertools.cycle(range(_FIRST_PORT, _FIRST_PORT + _PORTS))

    def measure(self, kind: str, *, scale: float = 1.0) -> float:
        """Return the nanoseconds of CPU that one operation of ``kind`` takes.

        The least of some attempts: what others do to caches and memory meanwhile only ever adds. ``scale`` makes them
        longer or shorter.

        Raises:
            TrafficError: packets were lost.
        """
        operations = round(OPERATIONS[kind] * scale)
        return min(self._attempt(kind, operations, number) for number in range(_ATTEMPTS)) / operations

    def _attempt(self, kind: str, operations: int, number: int) -> int:
        pair = self._taps if kind == "newflow" else self._sockets
        # No connection meets what an earlier one left behind: flows that are new, or a port of its own.
        last = (
            [udp_frame(pair).hex(), 2 * number * operations]
            if kind == "newflow"
            else [pair.b.address, next(self._ports)]
        )
        descriptors = (pair.a.descriptor, pair.b.descriptor)
        words = [self._program, kind, operations, self._cpu, self._ksoftirqd, *descriptors, *last]
        done = subprocess.run(list(map(str, words)), pass_fds=descriptors, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TrafficError(done.stderr.strip() or f"load {kind} ended with {done.returncode}")
        return int(done.stdout)


def udp_frame(pair: Pair, *, ports: tuple[int, int] = (0, 0)) -> bytes:
    """A frame of 64 bytes, its check sum, which taps do not carry, included; ``load.c`` fills in ports of its own."""
    udp = struct.pack("!HHHH", *ports, 8 + 18, 0) + bytes(18)
    addresses = IPv4Address(pair.a.address).packed + IPv4Address(pair.b.address).packed
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    checked = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    return bytes.fromhex((pair.b.mac + pair.a.mac).replace(":", "")) + b"\x08\x00" + checked + udp


def _compile() -> Path:
    if shutil.which("gcc") is None:
        raise TrafficError("gcc is missing: run make setup")
    program = _SOURCE.parents[1] / "build" / "bench" / "load"
    program.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrafficError(f"load.c does not compile:\n{done.stderr}")
    return program


def _find_thread(name: str) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == name:
                return int(process.name)
        except OSError:  # it has ended meanwhile
            continue
    raise TrafficError(f"this kernel has no thread {name}")
