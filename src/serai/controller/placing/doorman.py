"""Answers hosts that ask whether a VM may run there. Only the controller that leads is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from serai.controller.current import Current
from serai.controller.placing.entering import EntrySettings
from serai.controller.placing.found import Owners, Placements, Reported, Signs
from serai.controller.shard import Shard
from serai.migration.entry import Entering, Entry, judge
from serai.model.inventory import Mac
from serai.model.migration import Ticket
from serai.model.world import World
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
        )  # fmt: skip
        edition = await self._current.catch_up()
        # What hosts report is looked at here, and in no other thread; the rest may take its time when the resources are new.
        entry = await asyncio.to_thread(self._judge, entering, edition.catalog.world, self._shard.signs())
        if not entry.allowed:
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
                ),
            )

    def _judge(self, entering: Entering, world: World, signs: Signs) -> Entry:
        owners = self._owners.of(world.vms)
        placement = self._placements.of(world, signs)
        going = self._tickets.going()
        path = next((owners[mac] for mac in sorted(entering.cards) if mac in owners), None)
        return judge(
            entering, world, placement, owner=owners.get, running=Reported(world.vms, signs), going=going,
            ticket=self._tickets.ticket(path) if path else None, terms=self._settings.terms,
        )  # fmt: skip
