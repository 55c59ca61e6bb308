"""Decides which agent may come in, and as what: by the certificate that it shows and by what is on record of its host."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from serai.controller.hosts import Hosts
from serai.controller.sessions.roles import Admitted, Leader, Turned
from serai.controller.shard import Shard
from serai.store.errors import JoinError, StoreError
from serai.store.store import Store

_log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 0.2
"""How old may be what is told of who leads, and of the audit log."""


class Gatekeeper:
    """Asks the store; what must be said at once, it has asked a moment ago."""

    def __init__(self, store: Store, shard: Shard, hosts: Hosts) -> None:
        """Nothing is asked yet."""
        self._store, self._shard, self._hosts = store, shard, hosts
        self._elsewhere = Leader(leads=False, url="", term=0)
        self._checkpoint = ""

    async def run(self) -> None:
        """Look again and again who leads, until cancelled."""
        while True:
            try:
                if (found := await self._store.leader(self._shard.name)) is not None:
                    self._elsewhere = Leader(leads=False, url=found.url, term=found.term)
                self._checkpoint = await self._store.audit.checkpoint()
            except StoreError as error:  # Current tells of it, once
                _log.debug("cannot look who leads", error=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def admit(self, host: str, serial: str, epoch: int) -> Admitted | Turned:
        """Let an agent in whose certificate says that it is that host's.

        Raises:
            ConnectionError: the database does not answer.
        """
        try:
            record = await self._store.hosts.one(host)
            if record is None:
                return Turned(reason=f"no host {host} has joined")
            if record.revoked is not None:
                return Turned(reason=f"host {host} is revoked: let it join again")
            if serial not in record.serials:
                return Turned(reason=f"host {host} has had a newer certificate: let it join again")
            if epoch == 0:
                return Admitted(epoch=await self._store.hosts.next_epoch(host))
        except StoreError as error:
            raise ConnectionError(str(error)) from error
        if epoch < record.epoch:
            return Turned(reason=f"a newer agent of host {host} has come", fenced=True, epoch=record.epoch)
        if epoch > record.epoch:
            return Turned(
                reason=f"host {host} has never had an agent of epoch {epoch}: has the database been set back?"
            )
        return Admitted(epoch=epoch)

    def leader(self) -> Leader:
        """Say who leads."""
        if (term := self._shard.term) is not None:
            return Leader(leads=True, url="", term=term)
        return self._elsewhere

    async def outranked(self, term: int) -> None:
        """An agent has obeyed a leader of a higher term: lead in a higher one, or not at all."""
        self._shard.outranked(term)

    async def renewed(self, host: str, csr: str) -> str:
        """Sign an agent's next certificate.

        Raises:
            PkiError: the request is none.
            PermissionError: the host is not to have one.
            ConnectionError: the database does not answer.
        """
        try:
            return await self._hosts.renewed(host, csr)
        except JoinError as error:
            raise PermissionError(str(error)) from error
        except StoreError as error:
            raise ConnectionError(str(error)) from error

    def checkpoint(self) -> str:
        """Return the latest checkpoint of the audit log, as far as it is known."""
        return self._checkpoint
