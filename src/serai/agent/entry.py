"""Asks, before a VM runs on this host, whether it may: the hypervisor waits for the answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from serai.agent.config import Alone
from serai.inventory.domains import cards_of
from serai.wire import local
from serai.wire.remote import Card, Entering, Entry

_log = structlog.get_logger(__name__)

Ask = Callable[[Entering], Awaitable[Entry | None]]
"""Asks the controller; None: it does not answer, or not in time."""

_ARRIVING_SECONDS: Final = 300.0
"""Who was let in from another host is not asked about again while it is prepared here."""
_NOBODY: Final = "no controller answers, so that nobody can say whether it may"


class Desk:
    """Lets VMs in, as the controller says."""

    def __init__(
        self, ask: Ask, *, joined: Callable[[], bool], encrypted: Callable[[], bool | None], alone: Alone
    ) -> None:
        """Ask by ``ask``, once the host has ``joined`` a site.

        ``encrypted`` says whether the memory of who comes can come over TLS only; ``alone``: what becomes of VMs that are
        started while nobody answers. Who comes from another host must wait then.
        """
        self._ask, self._joined, self._encrypted, self._alone = ask, joined, encrypted, alone
        self._number = 0
        self._arriving: dict[str, float] = {}

    async def enter(self, definition: str, *, incoming: bool) -> local.EnterReply:
        """Say what there is against it that this domain runs here.

        Raises:
            DefinitionError: that is no domain.
        """
        domain, cards = cards_of(definition)
        if not self._joined() or not cards:
            return local.EnterReply()
        now = time.monotonic()
        if not incoming and now < self._arriving.pop(domain, 0.0):
            return local.EnterReply()
        self._number += 1
        entry = await self._ask(
            Entering(
                number=self._number,
                domain=domain,
                cards=[Card(mac=str(mac), bridge=bridge) for mac, bridge in cards.items()],
                incoming=incoming,
                encrypted=self._encrypted() if incoming else None,
            )
        )
        if entry is None or entry.unable:
            why = f"the controller cannot say whether it may ({entry.unable})" if entry else _NOBODY
            return self._unasked(domain, why, incoming=incoming)
        if entry.objections:
            _log.warning("a domain is not let in", domain=domain, why=list(entry.objections))
        elif incoming:
            self._arriving[domain] = now + _ARRIVING_SECONDS
        if entry.warnings:
            _log.warning("a domain is let in", domain=domain, but=list(entry.warnings))
        return local.EnterReply(objections=list(entry.objections), warnings=list(entry.warnings))

    def _unasked(self, domain: str, why: str, *, incoming: bool) -> local.EnterReply:
        _log.warning("a domain cannot be asked about", domain=domain, incoming=incoming, why=why)
        if incoming:
            return local.EnterReply(objections=[f"{why}: it stays where it is"])
        if self._alone is Alone.VETO:
            return local.EnterReply(objections=[f'{why} (without_controller = "veto" in agent.toml)'])
        return local.EnterReply(warnings=[why])
