"""Decides which agent may come in, and as what: by the certificate that it shows and by what is on record of its host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from serai.controller.agents import Admitted, Leader, Turned
from serai.controller.hosts import Hosts
from serai.controller.shard import Shard
from serai.store.store import Store


class Gatekeeper:
    """Asks the store."""

    def __init__(self, store: Store, shard: Shard, hosts: Hosts, *, clock: Callable[[], datetime]) -> None:
        """Ask there."""
        self._store, self._shard, self._hosts, self._clock = store, shard, hosts, clock

    async def admit(self, host: str, serial: str, epoch: int) -> Admitted | Turned:
        """Let an agent in whose certificate says that it is that host's; ``epoch``: what its life was called so far, 0: it has begun."""
        record = await self._store.host(host)
        if record is None:
            return Turned(reason=f"no host {host} has joined", fenced=False)
        if record.revoked is not None:
            return Turned(reason=f"host {host} is revoked: let it join again", fenced=False)
        if serial not in record.serials:
            return Turned(reason=f"host {host} has had a newer certificate: let it join again", fenced=False)
        if epoch == 0:
            return Admitted(epoch=await self._store.next_epoch(host))
        if epoch != record.epoch:
            return Turned(reason=f"a newer agent of host {host} has come", fenced=True)
        return Admitted(epoch=epoch)

    async def leader(self) -> Leader:
        """Say who leads, and in which term."""
        if (term := self._shard.term) is not None:
            return Leader(here=True, url="", term=term)
        found = await self._store.leader("all")
        return Leader(here=False, url=found.url if found else "", term=found.term if found else 0)

    async def renewed(self, host: str, csr: str) -> str:
        """Sign an agent's next certificate."""
        return await self._hosts.renewed(host, csr)
