"""Asks, before a VM runs on this host, whether it may: the hypervisor waits for the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from serai.agent.config import Alone
from serai.agent.definitions import Definitions
from serai.agent.digests import Booted
from serai.inventory.booting import Boot, boots_of
from serai.inventory.definition import digest_of
from serai.inventory.domains import cards_of
from serai.wire import local, remote
from serai.wire.remote import MOST_BOOTS, Card, Entering, Entry

_log = structlog.get_logger(__name__)

Ask = Callable[[Entering], Awaitable[Entry | None]]
"""Asks the controller; None: it does not answer, or not in time."""

Look = Callable[[Sequence[Boot], float], Awaitable[list[Booted]]]
"""Looks at what a domain boots from, for so many seconds at the most."""

_LOOK_SECONDS: Final = 20.0
"""So long whoever starts a VM waits until what it boots from has been read."""
_REFUSED_SECONDS: Final = 0.5
"""The same where it may not run anyway: what is known of its files is told with the rest."""

_LONGEST: Final = 1024
"""Of a path, and of why a file could not be read."""
_AGAIN_SECONDS: Final = 30.0
"""So long after a VM was let in, what it boots from is looked at again: libvirt makes files its own when it starts a domain, and they
have changed then."""
_ARRIVING_SECONDS: Final = 300.0
"""Who was let in from another host is not asked about again while it is prepared here."""
_NOBODY: Final = "no controller answers, so that nobody can say whether it may"


class Desk:
    """Lets VMs in, as the controller says."""

    def __init__(
        self,
        ask: Ask,
        look: Look,
        definitions: Definitions,
        *,
        joined: Callable[[], bool],
        encrypted: Callable[[], bool | None],
        alone: Alone,
    ) -> None:
        """Ask by ``ask``, once the host has ``joined`` a site; ``look`` at what VMs boot from where that is asked back.

        ``definitions`` are those that were right before.

        ``encrypted`` says whether the memory of who comes can come over TLS only; ``alone``: what becomes of VMs that are
        started while nobody answers. Who comes from another host must wait then.
        """
        self._look, self._definitions = look, definitions
        self._tasks: set[asyncio.Task[object]] = set()
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
        entering = Entering(
            number=self._next(),
            domain=domain,
            cards=[Card(mac=str(mac), bridge=bridge) for mac, bridge in cards.items()],
            incoming=incoming,
            encrypted=self._encrypted() if incoming else None,
            definition=bytes.fromhex(digest_of(definition)),
        )
        entry = await self._ask(entering)
        if entry is not None and entry.look:
            seconds = _REFUSED_SECONDS if entry.objections else _LOOK_SECONDS
            entry = await self._ask_again(entering, boots_of(definition), seconds)
        if entry is None or entry.unable:
            why = f"the controller cannot say whether it may ({entry.unable})" if entry else _NOBODY
            return self._unasked(domain, why, incoming=incoming)
        objections = [*entry.objections, *self._difference(entry, entering, definition)]
        if entry.look and not objections:
            objections = ["the controller does not say whether it may boot from its files"]
        if objections:
            _log.warning("a domain is not let in", domain=domain, why=objections)
        elif incoming:
            self._arriving[domain] = now + _ARRIVING_SECONDS
        if entry.warnings:
            _log.warning("a domain is let in", domain=domain, but=list(entry.warnings))
        return local.EnterReply(objections=objections, warnings=list(entry.warnings))

    def _difference(self, entry: Entry, entering: Entering, definition: str) -> list[str]:
        """Say in what the machine definition differs from the one that is registered, as far as this host has met that."""
        if entry.definition is None:
            return []
        if entry.definition == entering.definition:
            self._definitions.remember(definition)
            return []
        why = self._definitions.explain(entry.definition.hex(), definition)
        return [f"against the definition that is registered, {why}"] if why else []

    async def _ask_again(self, entering: Entering, boots: Sequence[Boot], seconds: float) -> Entry | None:
        """Ask with what the domain boots from."""
        found = await self._look(boots, seconds)
        told = [_told(each) for each in found]
        if len(told) > MOST_BOOTS:
            told = [remote.Boot(what="disks", why=f"they are more than {MOST_BOOTS} files")]
        entry = await self._ask(msgspec.structs.replace(entering, number=self._next(), boots=told))
        if entry is not None and not entry.objections:
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._warm, boots)
        return entry

    def _warm(self, boots: Sequence[Boot]) -> None:
        task = asyncio.ensure_future(self._look(boots, _LOOK_SECONDS))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _unasked(self, domain: str, why: str, *, incoming: bool) -> local.EnterReply:
        _log.warning("a domain cannot be asked about", domain=domain, incoming=incoming, why=why)
        if incoming:
            return local.EnterReply(objections=[f"{why}: it stays where it is"])
        if self._alone is Alone.VETO:
            return local.EnterReply(objections=[f'{why} (without_controller = "veto" in agent.toml)'])
        return local.EnterReply(warnings=[why])


def _told(found: Booted) -> remote.Boot:
    if len(found.path) > _LONGEST:
        return remote.Boot(what=found.what[:256], why=f"its path is longer than {_LONGEST} characters")
    digest = bytes.fromhex(found.sha256) if found.sha256 else None
    return remote.Boot(what=found.what[:256], path=found.path, digest=digest, why=found.why[:_LONGEST])
