"""Who lets agents in, and who listens to them, for tests: as the store and the shard would, in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from credentials import Site, now
from serai.controller.sessions.roles import Admitted, Leader, Turned
from serai.model.host_facts import HostFacts
from serai.wire.remote import Entering, Held, Hello, Moving, Records, Sight


class Gatekeeper:
    """Lets in whom the store would."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.epochs: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.now_leads = Leader(leads=True, url="", term=7)
        self.outranked_by: list[int] = []
        self.down = False
        self.note = "log\n3\nroot\n"
        self.gate = asyncio.Event()
        self.gate.set()

    async def admit(self, host: str, serial: str, epoch: int) -> Admitted | Turned:
        assert serial
        await self.gate.wait()
        if self.down:
            raise ConnectionError("the database is away")
        if host in self.revoked:
            return Turned(reason="host is revoked")
        if epoch == 0:
            self.epochs[host] = self.epochs.get(host, 0) + 1
        elif epoch < self.epochs.get(host, 0):
            return Turned(reason="", fenced=True, epoch=self.epochs[host])
        return Admitted(epoch=self.epochs[host])

    def leader(self) -> Leader:
        return self.now_leads

    async def outranked(self, term: int) -> None:
        self.outranked_by.append(term)

    async def renewed(self, host: str, csr: str) -> str:
        if host in self.revoked:
            raise PermissionError("host is revoked")
        return self.site.keys.authority.sign_host(csr, host, now())

    def checkpoint(self) -> str:
        return self.note


class Listener:
    """Writes down what it is told, and waits for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.changed = asyncio.Event()

    def _tell(self, host: str, what: Any) -> None:
        self.told.append((host, what))
        self.changed.set()

    def arrived(self, host: str, hello: Hello) -> None:
        self._tell(host, hello)

    def seen(self, host: str, sight: Sight) -> None:
        self._tell(host, sight)

    def described(self, host: str, facts: HostFacts) -> None:
        self._tell(host, facts)

    def held(self, host: str, held: Held) -> None:
        self._tell(host, held)

    def told(self, host: str, records: Records) -> None:
        self._tell(host, records)

    def entering(self, host: str, entering: Entering) -> None:
        self._tell(host, entering)

    def moving(self, host: str, moving: Moving) -> None:
        self._tell(host, moving)

    def left(self, host: str) -> None:
        self._tell(host, "left")

    async def until(self, host: str, what: Any) -> None:
        while (host, what) not in self.told:
            self.changed.clear()
            await self.changed.wait()
