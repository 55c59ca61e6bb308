"""Answers hosts that ask whether a VM may run there. Only the controller that leads is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from serai.controller.current import Current
from serai.controller.placing.entering import EntrySettings
from serai.controller.placing.found import Owners, Placements, Reported
from serai.controller.shard import Shard
from serai.migration.entry import Entering, judge
from serai.migration.registered import Booted
from serai.model.inventory import Mac
from serai.model.migration import Ticket
from serai.wire import remote

_log = structlog.get_logger(__name__)

Send = Callable[[str, remote.FromController], object]
"""Sends a message to the agent of a host."""


class Tickets(Protocol):
    """Who knows which moves go on."""

    def ticket(self, vm: str) -> Ticket | None:
        """Return the leave to move a VM that has been given and not ended."""

    def going(self) -> Mapping[str, str]:
        """Return where VMs are about to go, by path."""


class Doorman:
    """Lets VMs in."""

    def __init__(self, current: Current, shard: Shard, tickets: Tickets, settings: EntrySettings) -> None:
        """Ask these; nobody is sent anything yet."""
        self._current, self._shard, self._tickets, self._settings = current, shard, tickets, settings
        self._owners = Owners()
        self._placements = Placements()
        self._send: Send | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, send: Send) -> None:
        """Send answers by ``send``."""
        self._send = send

    def asked(self, host: str, message: remote.Entering) -> None:
        """A host asks; it is answered in a moment."""
        task = asyncio.get_running_loop().create_task(self._answer(host, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, host: str, message: remote.Entering) -> None:
        entering = Entering(
            host=host, domain=message.domain, cards={Mac(card.mac): card.bridge for card in message.cards},
            incoming=message.incoming, encrypted=message.encrypted,
            definition=message.definition.hex() if message.definition else None, boots=_boots(message.boots),
        )  # fmt: skip
        world = (await self._current.catch_up()).catalog.world
        # That may take its time when the resources are new; what hosts report and which moves go on changes meanwhile.
        owners = await asyncio.to_thread(self._owners.of, world.vms)
        entry = judge(
            entering, world, self._placements.of(world), owner=owners.get, running=Reported(world.vms, self._shard.places),
            going=self._tickets.going(), ticket=self._tickets.ticket, terms=self._settings.terms,
        )  # fmt: skip
        if entry.objections:
            _log.warning(
                "a VM is not let in", host=host, domain=message.domain, vm=entry.vm, why=list(entry.objections)
            )
        elif entry.warnings:
            _log.warning("a VM is let in", host=host, domain=message.domain, vm=entry.vm, but=list(entry.warnings))
        if self._send is not None:
            self._send(
                host,
                remote.Entry(
                    answers=message.number,
                    vm=entry.vm or "",
                    objections=list(entry.objections),
                    warnings=list(entry.warnings),
                    look=entry.look,
                    definition=bytes.fromhex(entry.definition) if entry.definition else None,
                ),
            )


def _boots(told: Sequence[remote.Boot] | None) -> tuple[Booted, ...] | None:
    if told is None:
        return None
    return tuple(
        Booted(what=each.what, path=each.path, digest=each.digest.hex() if each.digest else "", why=each.why)
        for each in told
    )
