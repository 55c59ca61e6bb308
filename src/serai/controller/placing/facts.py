"""What hosts are made of: as they tell this controller, and as they have told others before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from serai.model.host_facts import HostFacts
from serai.store.records import ToldFacts
from serai.store.store import Store

_log = structlog.get_logger(__name__)

_KEEP_SECONDS: Final = 1.0
"""How often what is new is written down."""


class Facts:
    """Remembers what hosts have told last, also while they are away."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime]) -> None:
        """Keep it there."""
        self._store, self._clock = store, clock
        self._told: dict[str, ToldFacts] = {}
        self._unkept: set[str] = set()

    def described(self, host: str, facts: HostFacts) -> None:
        """A host tells what it is made of."""
        self._told[host] = ToldFacts(host=host, told=self._clock(), facts=facts)
        self._unkept.add(host)

    async def run(self) -> None:
        """Write down what is new, until cancelled."""
        trouble = ""
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            unkept, self._unkept = self._unkept, set()
            try:
                await self._store.hosts.put_facts([self._told[host] for host in sorted(unkept)])
            except Exception as error:  # noqa: BLE001 (the database may be away for a while)
                self._unkept |= unkept
                if not trouble:
                    _log.error("what hosts are made of cannot be kept", error=str(error))
                trouble = str(error) or type(error).__name__
            else:
                trouble = ""

    async def all(self) -> dict[str, ToldFacts]:
        """Return what each host has told last, to whichever controller.

        Raises:
            StoreError: the database does not answer.
        """
        found = {each.host: each for each in await self._store.hosts.facts()}
        for host, told in self._told.items():
            if host not in found or found[host].told < told.told:
                found[host] = told
        return found
