"""What people want of relocations: to begin one, to see how far it has come, to stop it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import msgspec

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.errors import ConflictError, NotFoundError
from serai.controller.relocating.relocations import Relocations
from serai.controller.views import MOST, require
from serai.migration.relocation import Standing
from serai.model.tenancy import ROOT
from serai.store.records import Entry, MoveRecord, RelocationRecord, Tally
from serai.store.store import Store
from serai.wire.planapi import PlanReply, PlanRequest
from serai.wire.relocationapi import (
    AtATime,
    RelocatedVm,
    Relocation,
    RelocationList,
    RelocationRequest,
    RelocationShown,
    StopRequest,
    moves_digest,
)

NEWS: Final = 256
"""Moves that are over, of which whoever follows a relocation is told at once: thousands, each time, would keep the controller from its work."""
_POLL_SECONDS: Final = 0.2
"""How often a controller that does not lead looks again."""


class Planner(Protocol):
    """Who makes plans."""

    async def plan(self, who: Caller, request: PlanRequest) -> PlanReply:
        """Make a plan for somebody."""
        ...


class RelocationRequests:
    """Answers them at any controller: what is wanted is written down, and done by the one that leads."""

    def __init__(
        self, store: Store, planner: Planner, relocations: Relocations, *, clock: Callable[[], datetime]
    ) -> None:
        """Ask these."""
        self._store, self._planner, self._relocations, self._clock = store, planner, relocations, clock

    async def ask(self, who: Caller, request: RelocationRequest) -> RelocationShown:
        """Have a plan made, and carried out.

        Raises:
            ForbiddenError: this person may not.
            ConflictError: the plan is another one than they have seen.
            RelocationError: another one is being carried out.
            InvalidError, NotFoundError, UnavailableError: no plan can be made.
        """
        require(who, Verb.MOVE)
        await self._store.relocations.require_none()
        goal = PlanRequest(evacuate=request.evacuate, rebalance=request.rebalance)
        plan = await self._planner.plan(who, goal)
        if request.expect not in {None, moves_digest(plan)}:
            raise ConflictError(
                "the plan is another one by now than what you have seen: VMs, hosts or rules are not what they were; look at it again"
            )
        new = _new(who, request, plan, self._clock())
        entry = Entry(
            who=who.name, verb="relocate", object=_object(goal), scope=ROOT, outcome="done",
            detail={"moves": new.moves, "stuck": new.stuck, "plan": moves_digest(plan), "token": who.token},
        )  # fmt: skip
        record = await self._store.relocations.begin(new, msgspec.json.encode(plan).decode(), entry, self._clock())
        self._relocations.nudge()
        return RelocationShown(relocation=told(record, Tally()), begun=[], plan=plan)

    async def relocations(self, who: Caller, *, before: int | None, limit: int) -> RelocationList:
        """List relocations, the latest first.

        Raises:
            ForbiddenError: this person may not see hosts.
        """
        require(who, Verb.READ_HOSTS)
        most = min(limit, MOST)
        found = await self._store.relocations.latest(before=before, limit=most + 1)
        page = found[:most]
        tallies = await self._store.moves.tallies([each.id for each in page])
        return RelocationList(
            relocations=[told(each, tallies.get(each.id, Tally())) for each in page],
            before=page[-1].number if len(found) > most else None,
        )

    async def relocation(self, who: Caller, name: str, *, seen: int | None, seconds: float) -> RelocationShown:
        """Show a relocation; with ``seen``, without its plan, as soon as its version is another, or it is over, or ``seconds`` are.

        As long as it is not over, ``seen`` leaves out what was over long before, too.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: there is no such relocation.
        """
        require(who, Verb.READ_HOSTS)
        record = await self._found(name) if seen is None else await self._otherwise(name, seen, seconds)
        if seen is not None:
            return await self._shown(record)
        plan = msgspec.json.decode(await self._store.relocations.plan(record.id), type=PlanReply)
        return await self._shown(record, plan)

    async def stop(self, who: Caller, name: str, request: StopRequest) -> RelocationShown:
        """Have no more moves of a relocation begin; those under way go on.

        Raises:
            ForbiddenError: this person may not.
            NotFoundError: there is no such relocation.
            RelocationError: it is over.
        """
        require(who, Verb.MOVE)
        found = await self._found(name)
        entry = Entry(
            who=who.name, verb="stop a relocation", object=f"Relocation {found.number}", scope=ROOT, outcome="done",
            detail={"why": request.why, "token": who.token},
        )  # fmt: skip
        await self._store.relocations.ask_stop(found.id, who.name, entry, self._clock())
        self._relocations.nudge()
        return await self._shown(await self._found(found.id))

    async def _found(self, name: str) -> RelocationRecord:
        record = await self._store.relocations.one(name)
        if record is None:
            raise NotFoundError(f"there is no relocation {name}")
        return record

    async def _shown(self, record: RelocationRecord, plan: PlanReply | None = None) -> RelocationShown:
        """Show all of it to whoever sees its plan, and to others what is new."""
        ended = None if plan is not None or record.ended is not None else NEWS
        tally, begun = await self._store.moves.of(record.id, ended=ended)
        return RelocationShown(relocation=told(record, tally), begun=[_vm(each) for each in begun], plan=plan)

    async def _otherwise(self, name: str, seen: int, seconds: float) -> RelocationRecord:
        """Return a relocation as soon as its version is another than was seen, or the time is over."""

        async def look() -> tuple[RelocationRecord, int]:
            record = await self._found(name)
            tally = (await self._store.moves.tallies([record.id])).get(record.id, Tally())
            return record, told(record, tally).version

        found, _ = await self._relocations.news.until(
            look, lambda found: found[1] != seen or found[0].ended is not None, seconds=seconds, every=_POLL_SECONDS
        )
        return found


def told(record: RelocationRecord, tally: Tally) -> Relocation:
    """Return a relocation as the API tells it."""
    goal = msgspec.json.decode(record.goal, type=PlanRequest)
    limits = msgspec.json.decode(record.limits, type=AtATime)
    begun = tally.done + tally.aborted + tally.under_way
    return Relocation(
        id=record.id, number=record.number, evacuate=goal.evacuate, rebalance=goal.rebalance, together=limits.together,
        of_a_host=limits.of_a_host, by=record.by, asked=record.asked, state=record.state,
        version=record.version + tally.versions, moves=record.moves, done=tally.done, aborted=tally.aborted,
        under_way=tally.under_way, waiting=record.moves - begun, stuck=record.stuck, why=record.why, stop=record.stop, ended=record.ended,
    )  # fmt: skip


def _vm(move: MoveRecord) -> RelocatedVm:
    return RelocatedVm(
        number=move.number, vm=move.vm, source=move.source, to=move.to, state=move.state, asked=move.asked,
        why=move.why or move.note, ended=move.ended,
    )  # fmt: skip


def _new(who: Caller, request: RelocationRequest, plan: PlanReply, now: datetime) -> RelocationRecord:
    limits = AtATime(together=request.together, of_a_host=request.of_a_host)
    return RelocationRecord(
        number=0, id=secrets.token_hex(16), goal=_json(PlanRequest(evacuate=request.evacuate, rebalance=request.rebalance)),
        limits=_json(limits), moves=sum(map(len, plan.rounds)), stuck=len(plan.stuck), by=who.name, asked=now, state=Standing.RUNNING,
    )  # fmt: skip


def _object(goal: PlanRequest) -> str:
    if goal.rebalance:
        return f"Pool {goal.rebalance}"
    return f"Host {', '.join(goal.evacuate)}"


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
