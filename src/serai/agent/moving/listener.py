"""Where other hosts hand over the flows of VMs that come to this one: open while this host has joined a site."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import structlog

from serai.agent.identity import Identity, IdentityError
from serai.wire.peer import DestinationEnd, HandoffError, listen

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Open:
    place: tuple[str, object]
    server: asyncio.Server
    address: str


class Listener:
    """One listening socket, which follows this host's address and its certificate."""

    def __init__(
        self,
        identity: Identity,
        port: int,
        converse: Callable[[DestinationEnd], Awaitable[None]],
        *,
        even_loopback: bool,
    ) -> None:
        """Listen at ``port`` (0: the system chooses) as what ``identity`` says; nothing is open yet."""
        self._even_loopback = even_loopback
        self._identity = identity
        self._port = port
        self._converse = converse
        self._open: _Open | None = None
        self.trouble = ""
        """Why nobody can hand over anything; empty where there is no reason that somebody should see to."""

    async def keep(self, address: str) -> str:
        """Listen at ``address``, and nowhere else; return where that is, ``ADDRESS:PORT``; empty: nowhere.

        Conversations that have begun go on wherever that was.
        """
        place = (address, self._identity.stamp())
        if self._open is not None and self._open.place == place:
            return self._open.address
        self.close()
        if not address or not self._identity.joined:
            return ""
        if ip_address(address).is_loopback and not self._even_loopback:
            self._say(
                "this host reaches its controller by the loopback, where no other host reaches it: set handoff_address"
            )
            return ""
        try:
            server = await listen(address, self._port, self._context(), self._converse)
        except (HandoffError, IdentityError) as error:
            self._say(str(error))
            return ""
        port = server.sockets[0].getsockname()[1]
        told = f"[{address}]:{port}" if ip_address(address).version == 6 else f"{address}:{port}"  # noqa: PLR2004
        self._open = _Open(place=place, server=server, address=told)
        self.trouble = ""
        _log.info("flows of VMs that come are taken", address=told)
        return told

    def close(self) -> None:
        """Listen no more."""
        if self._open is not None:
            self._open.server.close()
            self._open = None

    def _context(self) -> ssl.SSLContext:
        if not self._identity.read().certificate.listens:
            raise IdentityError(
                "this host's certificate is of before hosts handed flows to each other: it is renewed as soon as a controller of this "
                "version leads"
            )
        return self._identity.listening()

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("no VM can come to this host with its connections", trouble=trouble)
        self.trouble = trouble
