"""Users outside the data center: long sessions, floods and probes from a network's outside namespace."""

import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from serai.lab.namespace import call_in_namespace
from serai.lab.probe import ProbeResult

TICK_PORT = 7778
"""TCP port on which a guest sends a numbered line every 10 ms."""
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 0.2
_BANNER_MAX = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class TickReport:
    """What became of one session."""

    ticks: int
    """Lines received."""
    missing: int
    """Lines that were skipped: numbers between those received."""
    longest_silence_ms: float
    """Longest time without a line since the last mark (or the start), the current one included."""
    alive: bool
    """The connection was neither closed nor reset."""
    error: str
    """Why it ended; empty while it lives."""


class TickSession:
    """One TCP connection from outside to a guest's tick service, read in a thread while the `with` block runs."""

    def __init__(self, namespace: str, address: IPv4Address, port: int = TICK_PORT) -> None:
        """Describe the session; nothing is opened before `with`."""
        self._namespace = namespace
        self._target = (str(address), port)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._ticks = 0
        self._missing = 0
        self._last_number = 0
        self._last_time = 0.0
        self._longest = 0.0
        self._error = ""

    def __enter__(self) -> Self:
        """Connect and start to read. OSError when the guest cannot be reached."""
        self._socket = call_in_namespace(
            self._namespace, lambda: socket.create_connection(self._target, timeout=_CONNECT_SECONDS)
        )
        self._socket.settimeout(_READ_SECONDS)
        self._last_time = time.monotonic()
        self._thread = threading.Thread(target=self._read, name=f"ticks-{self._target[0]}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def mark(self) -> None:
        """Forget the silences so far."""
        with self._lock:
            self._longest = 0.0
            self._last_time = time.monotonic()

    def report(self) -> TickReport:
        """Say how the session is doing."""
        with self._lock:
            silence = max(self._longest, time.monotonic() - self._last_time)
            return TickReport(
                ticks=self._ticks,
                missing=self._missing,
                longest_silence_ms=silence * 1000,
                alive=not self._error,
                error=self._error,
            )

    def _read(self) -> None:
        rest = b""
        while self._socket is not None and not self._stop.is_set():
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                continue
            except OSError as error:
                self._end(error.strerror or str(error))
                return
            if not data:
                self._end("closed by the guest")
                return
            *lines, rest = (rest + data).split(b"\n")
            self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        numbers = [int(line.split()[1]) for line in lines if line.startswith(b"tick ")]
        now = time.monotonic()
        with self._lock:
            for number in numbers:
                self._missing += number - self._last_number - 1
                self._last_number = number
                self._ticks += 1
            if numbers:
                self._longest = max(self._longest, now - self._last_time)
                self._last_time = now

    def _end(self, error: str) -> None:
        with self._lock:
            self._error = error


def flood_udp(
    namespace: str, address: IPv4Address, port: int, *, per_second: int, seconds: float, marker: bytes
) -> Future[int]:
    """Send UDP datagrams with marker at a rate for a time, in a thread; the future gives how many were sent."""
    opened = call_in_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    future: Future[int] = Future()

    def send() -> None:
        with opened:
            try:
                future.set_result(_send_paced(opened, (str(address), port), per_second, seconds, marker))
            except OSError as error:
                future.set_exception(error)

    threading.Thread(target=send, name=f"flood-{address}", daemon=True).start()
    return future


def probe_tcp(namespace: str, address: IPv4Address, port: int, *, timeout_seconds: float = 1.0) -> ProbeResult:
    """Connect from outside, read the banner to its end and close."""
    began = time.monotonic()
    opened = call_in_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    error, banner = "", b""
    with opened:
        try:
            opened.settimeout(timeout_seconds)
            opened.connect((str(address), port))
            while len(banner) < _BANNER_MAX and (data := opened.recv(_BANNER_MAX)):
                banner += data
        except TimeoutError:
            error = "timeout"
        except ConnectionRefusedError:
            error = "refused"
        except ConnectionResetError:
            error = "reset"
        except OSError:
            error = "unreachable"
    return ProbeResult(
        ok=not error,
        error=error,
        milliseconds=(time.monotonic() - began) * 1000,
        peer="" if error else banner.decode(errors="replace").strip(),
    )


def _send_paced(opened: socket.socket, target: tuple[str, int], per_second: int, seconds: float, marker: bytes) -> int:
    began = time.monotonic()
    sent = 0
    for number in range(int(per_second * seconds)):
        early = began + number / per_second - time.monotonic()
        if early > 0:
            time.sleep(early)
        try:
            opened.sendto(marker, target)
        except OSError:
            continue  # no neighbour answered, or a port was reported closed: a flood goes on
        sent += 1
    return sent
