"""Answers hosts that ask whether a VM may run there. Only the controller that leads is asked.

Whoever comes from another host without a ticket is answered when that host is ready: a move is made of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from serai.controller.current import Current
from serai.controller.moves.escorts import Escorted
from serai.controller.placing.entering import EntrySettings
from serai.controller.placing.found import Owners, Placements, Reported
from serai.controller.shard import Shard
from serai.migration.entry import Demand, Entering, Entry, judge
from serai.migration.registered import Booted
from serai.model.inventory import Mac
from serai.model.migration import Ticket
from serai.store.errors import StoreError
from serai.wire import remote

_log = structlog.get_logger(__name__)

Send = Callable[[str, remote.FromController], object]
"""Sends a message to the agent of a host."""


class Escort(Protocol):
    """Who takes VMs along that hypervisors move by themselves."""

    def __call__(self, vm: str, to: str, *, encrypted: bool | None) -> Awaitable[Escorted]:
        """Return when a VM may come to a host.

        Raises:
            StoreError: the database does not answer.
        """


class Tickets(Protocol):
    """Who knows which moves go on."""

    def ticket(self, vm: str) -> Ticket | None:
        """Return the leave to move a VM that has been given and not ended."""

    def going(self) -> Mapping[str, str]:
        """Return where VMs are about to go, by path."""


class Doorman:
    """Lets VMs in."""

    def __init__(
        self, current: Current, shard: Shard, tickets: Tickets, escort: Escort, settings: EntrySettings
    ) -> None:
        """Ask these; nobody is sent anything yet."""
        self._current, self._shard, self._tickets, self._escort = current, shard, tickets, escort
        self._settings = settings
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
        try:
            entry = await self._judged(host, message)
        except StoreError as error:
            self._reply(
                host, remote.Entry(answers=message.number, vm="", objections=[], warnings=[], unable=str(error)[:4096])
            )
            return
        except Exception:  # noqa: BLE001 (a fault of ours: whoever waits for the answer must not wait in vain)
            _log.exception("whether a VM may run cannot be said", host=host, domain=message.domain)
            why = "a fault of its own, which its log tells"
            self._reply(host, remote.Entry(answers=message.number, vm="", objections=[], warnings=[], unable=why))
            return
        if not entry.allowed:
            _log.warning(
                "a VM is not let in", host=host, domain=message.domain, vm=entry.vm, why=list(entry.objections)
            )
        elif entry.warnings:
            _log.warning("a VM is let in", host=host, domain=message.domain, vm=entry.vm, but=list(entry.warnings))
        self._reply(
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

    def _reply(self, host: str, entry: remote.Entry) -> None:
        if self._send is not None:
            self._send(host, entry)

    async def _judged(self, host: str, message: remote.Entering) -> Entry:
        entering = Entering(
            host=host, domain=message.domain, cards={Mac(card.mac): card.bridge for card in message.cards},
            incoming=message.incoming, encrypted=message.encrypted,
            definition=message.definition.hex() if message.definition else None, boots=_boots(message.boots),
        )  # fmt: skip
        world = (await self._current.catch_up()).catalog.world
        # That may take its time when the resources are new; what hosts report and which moves go on changes meanwhile.
        owners = await asyncio.to_thread(self._owners.of, world.vms)
        terms = self._settings.terms
        # Where nobody needs a ticket, who comes without gets one; what the ticket of somebody who has one says is looked at there, too.
        escorted = message.incoming and terms.tickets is not Demand.REQUIRE
        entry = judge(
            entering, world, self._placements.of(world), owner=owners.get, running=Reported(world.vms, self._shard.places),
            going=self._tickets.going(), ticket=self._tickets.ticket,
            terms=dataclasses.replace(terms, tickets=Demand.OFF) if escorted else terms,
        )  # fmt: skip
        if not escorted or entry.look or not entry.allowed or entry.vm is None:
            return entry
        found = await self._escort(entry.vm, host, encrypted=message.encrypted)
        if found.objection:
            return dataclasses.replace(entry, objections=(*entry.objections, found.objection))
        told = found.warning and terms.tickets is Demand.WARN
        return dataclasses.replace(entry, warnings=(*entry.warnings, found.warning)) if told else entry


def _boots(told: Sequence[remote.Boot] | None) -> tuple[Booted, ...] | None:
    if told is None:
        return None
    return tuple(
        Booted(what=each.what, path=each.path, digest=each.digest.hex() if each.digest else "", why=each.why)
        for each in told
    )
