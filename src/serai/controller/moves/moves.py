"""Drives moves while this controller leads: does what the core decides, in order, and writes it down before it is done.

What a move has come to lies in the database, and with the two hosts: a controller that is killed at any step is followed by one that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from serai.controller import core as rules
from serai.controller.current import Current
from serai.controller.moves.config import MoveSettings
from serai.controller.moves.core import MovesCore
from serai.controller.moves.events import (
    AbortWanted,
    Asked,
    Command,
    End,
    Entered,
    Event,
    HostCame,
    HostChanged,
    HostLeft,
    Keep,
    Plan,
    PlanRefused,
    PlanTaken,
    Resumed,
    Say,
    Ticked,
    Told,
    Unplan,
)
from serai.controller.moves.site import KnownSite
from serai.controller.moves.turns import CannotMoveError, origin
from serai.controller.moves.wording import overdue
from serai.controller.news import News
from serai.controller.shard import Shard
from serai.controller.written import written
from serai.migration.states import State
from serai.model.inventory import VirtualMachine
from serai.model.migration import Ticket
from serai.model.tenancy import ROOT
from serai.store.errors import DeposedError, MoveError, StoreError
from serai.store.records import Entry, MoveRecord
from serai.store.store import Store
from serai.wire import remote

_log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.5
"""How often it is looked whether a time is over."""
POLL_SECONDS: Final = 0.3
"""How long what another controller was asked for may go unseen."""


class Endpoint(Protocol):
    """Where agents are connected."""

    def send(self, host: str, message: remote.FromController) -> int | None:
        """Send something to the agent of a host; None: it is not there."""
        ...


class Moves:
    """All moves of the site (``shard.Companion``)."""

    def __init__(
        self, store: Store, current: Current, shard: Shard, settings: MoveSettings, *, clock: Callable[[], datetime]
    ) -> None:
        """Drive none yet."""
        self._store, self._shard, self._settings, self._clock = store, shard, settings, clock
        self._site = KnownSite(shard, current)
        self._endpoint: Endpoint | None = None
        self._core: MovesCore | None = None
        self._term = 0
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._left_to_do: list[Command] = []
        self._nudged = asyncio.Event()
        self.news = News()
        """Told as soon as a move has come further, where they are driven here."""
        shard.accompany(self)

    def serve(self, endpoint: Endpoint) -> None:
        """Speak to agents through this."""
        self._endpoint = endpoint

    @property
    def leads(self) -> bool:
        """Whether moves are driven here."""
        return self._core is not None and self._shard.term is not None

    def open(self) -> int:
        """Count the moves that are not over, where they are driven here."""
        return len(self._core.open) if self._core is not None else 0

    def ticket(self, vm: str) -> Ticket | None:
        """Return the leave to move a VM that has been given and not taken back, where moves are driven here."""
        return next((move.ticket for move in self._under_way() if move.vm == vm), None)

    def of(self, vm: str) -> MoveRecord | None:
        """Return the move of a VM that is not over, where moves are driven here."""
        open_ = self._core.open if self._core is not None else ()
        return next((move for move in open_ if move.vm == vm), None)

    def going(self) -> dict[str, str]:
        """Return where VMs are about to go, by path; the same."""
        return {move.vm: move.to for move in self._under_way()}

    def wanted(self) -> dict[str, str]:
        """Return where VMs shall go whose moves are not over, those that wait or are being aborted too; the same."""
        return {move.vm: move.to for move in self._core.open} if self._core is not None else {}

    def _under_way(self) -> list[MoveRecord]:
        open_ = self._core.open if self._core is not None else ()
        return [move for move in open_ if move.state not in {State.WAITING, State.ABORTING}]

    def require_possible(self, vm: VirtualMachine, to: str) -> None:
        """Let go on who wants a VM to move that can, as far as this controller knows.

        Raises:
            CannotMoveError: it cannot.
        """
        origin(vm, to, self._site)

    def origin(self, path: str, to: str) -> str:
        """Return the host from which a VM would move.

        Raises:
            NotNowError: it cannot be moved there just now, as far as hosts have told.
            CannotMoveError: it cannot be moved there.
        """
        if (vm := self._site.vm(path)) is None:
            raise CannotMoveError(f"there is no VM {path} any more")
        return origin(vm, to, self._site)

    def lacking(self, move: MoveRecord) -> str:
        """Say what a move waits for that should have come by now."""
        return overdue(move, self._site)

    def nudge(self) -> None:
        """Look at once for what was asked for."""
        self._nudged.set()

    def asked(self, move: MoveRecord) -> None:
        """Take in what was just asked for, and is written down."""
        self._put(Asked(move=move))

    def entered(self, move: str) -> None:
        """A hypervisor is about to take a VM in of which such a move goes on."""
        self._put(Entered(move=move))

    # What agents tell

    def arrived(self, host: str) -> None:
        """An agent is there."""
        self._put(HostCame(host=host))

    def changed(self, host: str) -> None:
        """A host runs others than before, or holds another ruleset."""
        self._put(HostChanged(host=host))

    def moving(self, host: str, message: remote.Moving) -> None:
        """A host tells how far a move has come."""
        self._put(Told(host=host, moving=message))

    def left(self, host: str) -> None:
        """An agent is gone."""
        self._put(HostLeft(host=host))

    def _put(self, event: Event) -> None:
        if self._core is not None:
            self._events.put_nowait(event)

    # Leading

    async def take_over(self, term: int) -> Sequence[rules.Event]:
        """Read what is open: destinations must not lose rules because another controller leads.

        Raises:
            StoreError: the database does not answer.
        """
        moves = await self._store.moves.open()
        self._core, self._term, self._events = MovesCore(self._site, self._settings, term=term), term, asyncio.Queue()
        commands = self._core.handle(Resumed(moves=moves), self._clock())
        self._left_to_do = [command for command in commands if not isinstance(command, Plan)]
        return [rules.MovePlanned(vm=each.vm, to=each.to) for each in commands if isinstance(each, Plan)]

    def compiled(self, events: Sequence[rules.Event], refusals: Sequence[rules.Refusal]) -> None:
        """What hosts should hold follows from these events now, but for those that were refused."""
        refused = {id(refusal.event): str(refusal.why) for refusal in refusals}
        for event in events:
            if isinstance(event, rules.MovePlanned):
                why = refused.get(id(event))
                self._put(PlanTaken(vm=event.vm) if why is None else PlanRefused(vm=event.vm, why=why))

    async def lead(self, term: int) -> None:
        """Drive moves until cancelled.

        Raises:
            DeposedError: another controller leads.
        """
        try:
            await self._carry_out(self._left_to_do)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drive())
                tasks.create_task(self._watch())
        except* DeposedError:
            raise DeposedError(f"another controller leads than that of term {term}") from None
        finally:
            self._core = None
            self.news.tell()

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        tick = loop.time()
        while True:
            event: Event = Ticked()
            left = tick + TICK_SECONDS - loop.time()
            if left > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        event = await self._events.get()
            if isinstance(event, Ticked):
                tick = loop.time()
            await self._handle(event)

    async def _handle(self, event: Event) -> None:
        if self._core is None:
            return
        try:
            await self._carry_out(self._core.handle(event, self._clock()))
        except DeposedError:
            raise
        except Exception:  # noqa: BLE001 (a fault of ours with one move must not end the others, or the leadership)
            _log.exception("something that happened to a move could not be handled", event=repr(event)[:1000])

    async def _watch(self) -> None:
        """See what was asked for, here or at other controllers."""
        seen: set[str] = set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                moves = await self._store.moves.open()
            except StoreError as error:
                _log.debug("cannot look for moves", error=str(error))
                continue
            for move in moves:
                self._put(Asked(move=move))
                if move.abort is not None and move.id not in seen:
                    seen.add(move.id)
                    self._put(AbortWanted(move=move.id, by=move.abort))
            seen &= {move.id for move in moves}

    # What is done

    async def _carry_out(self, commands: Iterable[Command]) -> None:
        written = False
        for command in commands:
            match command:
                case Keep():
                    await self._written(lambda move=command.move: self._store.moves.keep(move, term=self._term))  # type: ignore[misc]
                    written = True
                case End():
                    await self._written(lambda end=command: self._end(end))  # type: ignore[misc]
                    written = True
                case Plan():
                    self._shard.plan(command.vm, command.to)
                case Unplan():
                    self._shard.unplan(command.vm)
                case Say():
                    if self._endpoint is not None:
                        self._endpoint.send(command.host, command.message)
        if written:
            self.news.tell()

    async def _written(self, write: Callable[[], Coroutine[Any, Any, object]]) -> None:
        await written(write, what="move", over=MoveError)

    async def _end(self, end: End) -> MoveRecord:
        move, done = end.move, end.move.state is State.DONE
        _log.info("a move is over", move=move.id, vm=move.vm, to=move.to, state=move.state, why=move.why)
        entry = Entry(
            who="serai", verb="end a move", object=f"VirtualMachine {move.vm}", scope=ROOT,
            outcome="done" if done else "failed", detail={} if done else {"why": move.why},
        )  # fmt: skip
        return await self._store.moves.end(move, end.receipt, entry, term=self._term, now=self._clock())
