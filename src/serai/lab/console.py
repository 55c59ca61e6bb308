"""Talk to a guest's daemon over its second serial port."""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from serai.lab.error import LabError
from serai.lab.probe import ProbeResult

Protocol = Literal["tcp", "udp", "icmp"]
ForgeKind = Literal["mac", "ip", "arp", "sha", "own"]

_RETRY_SECONDS = 0.05
_RESEND_SECONDS = 5.0
# What a busy, emulated guest may need beyond the time that the command itself takes.
_GRACE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pending:
    line: bytes
    reply: asyncio.Future[Mapping[str, Any]] = field(default_factory=asyncio.Future)


class GuestShell:
    """Client of one guest's daemon; many commands may be in flight at once.

    Use it as an async context manager. sockets are the control sockets the guest may have, one for each host it
    may run on. When the connection ends (the guest moved), the shell connects to where the guest is now and
    sends its open commands again; the daemon runs each command once and repeats the replies that were lost.
    A guest serves one shell at a time.
    """

    def __init__(self, domain: str, sockets: Sequence[Path]) -> None:
        """Describe the shell; nothing is opened before `async with`."""
        self.domain = domain
        self._sockets = tuple(sockets)
        self._numbers = itertools.count(1)
        # Another client's late replies must never look like ours.
        self._session = secrets.token_hex(4)
        self._pending: dict[str, _Pending] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to connect."""
        self._task = asyncio.create_task(self._serve(), name=f"shell-{self.domain}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; open commands are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for pending in self._pending.values():
            pending.reply.cancel()

    async def probe(
        self, protocol: Protocol, address: IPv4Address, port: int = 0, *, timeout_ms: int = 1000
    ) -> ProbeResult:
        """Try to reach a service from inside the guest (port is ignored for icmp)."""
        reply = await self.command(
            "probe", protocol, address, port, timeout_ms, timeout_seconds=timeout_ms / 1000 + _GRACE_SECONDS
        )
        return ProbeResult(ok=reply["ok"], error=reply["error"], milliseconds=reply["ms"], peer=reply["peer"])

    async def forge(self, kind: ForgeKind, *, marker: str, fake: str = "-", count: int = 1) -> int:
        """Send frames with a forged address (kind own: honest ones) that carry marker; return how many were sent.

        fake is a MAC address for mac and sha, an IPv4 address for ip and arp, and not used for own.
        """
        return int((await self.command("forge", kind, count, fake, marker))["sent"])

    async def knock(
        self, target: IPv4Address, port: int, *, marker: str, mac: str = "-", address: str = "-", count: int = 1
    ) -> int:
        """Send TCP SYNs to a service in broadcast frames that carry marker; return how many were sent.

        mac and address are the source's, forged or, where left out, the guest's own.
        """
        return int((await self.command("knock", count, mac, address, target, port, marker))["sent"])

    async def flood(self, address: IPv4Address, port: int, *, per_second: int, seconds: int, marker: str) -> int:
        """Send UDP datagrams at a rate for a time; return how many were sent. Other commands go on meanwhile."""
        reply = await self.command(
            "flood", "udp", address, port, per_second, seconds, marker, timeout_seconds=seconds * 2 + _GRACE_SECONDS
        )
        return int(reply["sent"])

    async def received(self) -> dict[int, int]:
        """Return how many UDP datagrams the guest's services have received, by port."""
        reply = await self.command("received")
        return {int(port): int(count) for port, count in reply["udp"].items()}

    async def ready(self) -> str:
        """Return the guest's host name, once its daemon answers."""
        return str((await self.command("ready"))["name"])

    async def command(
        self, verb: str, *arguments: object, timeout_seconds: float = _GRACE_SECONDS
    ) -> Mapping[str, Any]:
        """Run any command of the daemon and return its reply object.

        LabError when the daemon answers with an error, or not within timeout_seconds.
        """
        name = f"{self._session}-{next(self._numbers)}"
        words = [verb, name, *(str(argument) for argument in arguments)]
        if any(not word or word.split() != [word] for word in words):
            raise LabError(f"command for {self.domain}: an argument of {verb!r} is empty or holds white space")
        pending = _Pending(line=f"{' '.join(words)}\n".encode())
        self._pending[name] = pending
        try:
            self._send(pending.line)
            reply = await self._reply(pending, timeout_seconds)
        except TimeoutError as error:
            connected = "it is connected" if self._writer else "its control socket cannot be reached"
            raise LabError(
                f"guest {self.domain} did not answer {verb!r} within {timeout_seconds:.0f} s ({connected}; "
                "another client may hold the connection)"
            ) from error
        finally:
            del self._pending[name]
        if "error" in reply and "ok" not in reply:
            raise LabError(f"guest {self.domain} refused {verb!r}: {reply['error']}")
        return reply

    async def _reply(self, pending: _Pending, timeout_seconds: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = deadline - time.monotonic()
            with suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(pending.reply), min(left, _RESEND_SECONDS))
            if time.monotonic() >= deadline:
                raise TimeoutError
            # A line can be lost in a move, or while the guest's serial driver is still starting.
            self._send(pending.line)

    def _send(self, line: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line)

    async def _serve(self) -> None:
        while True:
            connection = await self._connect()
            if connection is None:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            reader, self._writer = connection
            try:
                # The newline ends whatever a client before us left half written.
                self._writer.write(b"\n" + b"".join(pending.line for pending in self._pending.values()))
                async for line in reader:
                    self._take(line)
            except (OSError, ValueError):
                pass
            finally:
                self._writer.close()
                self._writer = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for socket in self._sockets:
            with suppress(OSError):
                return await asyncio.open_unix_connection(socket)
        return None

    def _take(self, line: bytes) -> None:
        try:
            reply = json.loads(line)
        except ValueError:
            return  # the end of a line for somebody else, cut by a reconnect
        pending = self._pending.get(str(reply.get("id"))) if isinstance(reply, dict) else None
        if pending is not None and not pending.reply.done():
            pending.reply.set_result(reply)
