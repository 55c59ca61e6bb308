"""Carries relocations out while this controller leads: begins moves as the core decides, sees how they end, and writes the end down.

The plan, what has begun of it and how that ended lie in the database: a controller that is killed is followed by one that goes on.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
import structlog

from serai.controller.core import Event as RulesEvent
from serai.controller.core import Refusal
from serai.controller.news import News
from serai.controller.relocating.core import RelocationCore
from serai.controller.relocating.events import (
    BeginMove,
    Begun,
    Command,
    End,
    Event,
    MoveRefused,
    MoveStands,
    Note,
    Site,
    StopWanted,
    Ticked,
)
from serai.controller.shard import Shard
from serai.controller.written import written
from serai.migration.execution import Limits
from serai.migration.plan.answer import Move
from serai.migration.relocation import Standing
from serai.model.tenancy import ROOT
from serai.store.errors import DeposedError, MoveError, RelocationError, StoreError
from serai.store.records import Entry, RelocationRecord
from serai.store.store import Store
from serai.wire.planapi import PlanReply
from serai.wire.relocationapi import AtATime

_log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.5
"""How long what happened to a move may go unseen, or what another controller was asked for."""


class Mover(Site, Protocol):
    """Who drives moves."""

    news: News
    """Told as soon as a move has come further."""

    def nudge(self) -> None:
        """Look at once for what was asked for."""


class Relocations:
    """All relocations of the site (``shard.Companion``)."""

    def __init__(self, store: Store, shard: Shard, mover: Mover, *, clock: Callable[[], datetime]) -> None:
        """Carry none out yet."""
        self._store, self._mover, self._clock = store, mover, clock
        self._cores: dict[str, RelocationCore] = {}
        self._term = 0
        self._nudged = asyncio.Event()
        self.news = News()
        """Told as soon as a relocation, or a move, has come further, where they are carried out here."""
        shard.accompany(self)

    def nudge(self) -> None:
        """Look at once for what was asked for."""
        self._nudged.set()

    # Leading

    async def take_over(self, term: int) -> Sequence[RulesEvent]:
        """Get ready; what hosts hold does not depend on it."""
        self._cores, self._term = {}, term
        return ()

    def compiled(self, events: Sequence[RulesEvent], refusals: Sequence[Refusal]) -> None:
        """What hosts should hold is no matter of this."""

    async def lead(self, term: int) -> None:
        """Carry relocations out until cancelled.

        Raises:
            DeposedError: another controller leads.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drive())
                tasks.create_task(self._listen())
        except* DeposedError:
            raise DeposedError(f"another controller leads than that of term {term}") from None
        finally:
            self._cores = {}

    async def _listen(self) -> None:
        """Be awake when a move has come further."""
        while True:
            await self._mover.news.wait()
            self._nudged.set()
            self.news.tell()

    async def _drive(self) -> None:
        while True:
            self._nudged.clear()
            try:
                await self._look()
            except DeposedError:
                raise
            except StoreError as error:
                _log.debug("cannot look for relocations", error=str(error))
            except Exception:  # noqa: BLE001 (a fault of ours must not end the leadership)
                _log.exception("a relocation could not be gone on with")
                self._cores = {}  # what was decided may not have been done: begin again with what is on record
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._nudged.wait()

    async def _look(self) -> None:
        """See what was asked for, and what has become of moves."""
        open_ = await self._store.relocations.open()
        self._cores = {each.id: self._cores[each.id] for each in open_ if each.id in self._cores}
        for record in open_:
            if (core := self._cores.get(record.id)) is None:
                if (core := await self._begun(record)) is None:
                    continue
                await self._happen(record, core, Begun())
            elif record.stop is not None:
                await self._happen(record, core, StopWanted(by=record.stop))
            if core.under_way:
                for move in await self._store.moves.some(core.under_way):
                    await self._happen(record, core, MoveStands(move=move))
            await self._happen(record, core, Ticked())

    async def _begun(self, record: RelocationRecord) -> RelocationCore | None:
        """Go on with a relocation from what is on record of it; None: it cannot be understood, and ends."""
        _, begun = await self._store.moves.of(record.id)
        try:
            plan = msgspec.json.decode(await self._store.relocations.plan(record.id), type=PlanReply)
            limits = msgspec.json.decode(record.limits, type=AtATime)
        except msgspec.MsgspecError as error:
            if not any(move.ended is None for move in begun):
                await self._end(record, Standing.FAILED, f"another version has written its plan down: {error}")
            return None
        rounds = [[Move(machine=m.vm, source=m.source, to=m.to) for m in each] for each in plan.rounds]
        core = self._cores[record.id] = RelocationCore(
            record.id, rounds, Limits(together=limits.together, of_a_host=limits.of_a_host),
            begun=begun, stop=record.stop, note=record.why, site=self._mover,
        )  # fmt: skip
        return core

    async def _happen(self, record: RelocationRecord, core: RelocationCore, event: Event) -> None:
        """Let something happen to a relocation, with all that follows."""
        events = collections.deque([event])
        while events:
            commands = core.handle(events.popleft(), self._clock())
            events.extend(await self._carry_out(record, commands))

    # What is done

    async def _carry_out(self, record: RelocationRecord, commands: Iterable[Command]) -> list[Event]:
        """Do what was decided, and return what comes of it at once."""
        refused: list[Event] = []
        for command in commands:
            match command:
                case BeginMove():
                    try:
                        await self._begin(record, command)
                    except MoveError as error:
                        refused.append(MoveRefused(vm=command.vm, why=str(error)))
                    self._mover.nudge()
                case Note(why=why):
                    await self._written(lambda why=why: self._store.relocations.keep(record.id, why, term=self._term))  # type: ignore[misc]
                case End(state=state, why=why):
                    await self._written(lambda state=state, why=why: self._end(record, state, why))  # type: ignore[misc]
            self.news.tell()
        return refused

    async def _begin(self, record: RelocationRecord, command: BeginMove) -> None:
        """Have a move begin, once.

        Raises:
            DeposedError: another controller leads.
            MoveError: the VM is being moved by somebody else.
        """
        entry = Entry(
            who=record.by, verb="move", object=f"VirtualMachine {command.vm}", scope=ROOT, outcome="done",
            detail={"to": command.to, "relocation": record.id},
        )  # fmt: skip

        async def begin() -> None:
            if not await self._store.moves.some([command.id]):  # the answer may have been lost
                await self._store.moves.ask(
                    id_=command.id, vm=command.vm, to=command.to, by=record.by, entry=entry, now=self._clock(),
                    relocation=record.id, term=self._term,
                )  # fmt: skip

        await self._written(begin)

    async def _written(self, write: Callable[[], Coroutine[Any, Any, object]]) -> None:
        await written(write, what="relocation", over=RelocationError)

    async def _end(self, record: RelocationRecord, state: Standing, why: str) -> None:
        _log.info("a relocation is over", relocation=record.id, state=state, why=why)
        entry = Entry(
            who="serai", verb="end a relocation", object=f"Relocation {record.number}", scope=ROOT,
            outcome="failed" if state is Standing.FAILED else "done",
            detail={"state": state, **({"why": why} if why else {})},
        )  # fmt: skip
        await self._store.relocations.end(record.id, state, why, entry, term=self._term, now=self._clock())
