"""Plans of moves, and what carries them out, with no hosts behind them: for tests of the HTTP API and of those who use it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fake_moves import FakeMoves
from serai.access.decide import Caller
from serai.controller.errors import ConflictError, NotFoundError
from serai.migration.relocation import Standing
from serai.wire import planapi, relocationapi

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WEB, APP, DB = "/acme/shop:web", "/acme/shop:app", "/acme/shop:db"
STUCK = planapi.StuckVm(
    vm=DB, host="tight", why=["host b: no more than 204 MiB are free", "host c: it lacks the tag pci"]
)
PLANS: dict[str, tuple[Sequence[tuple[str, str, str]], Sequence[planapi.StuckVm]]] = {
    "old": ([(WEB, "old", "b"), (APP, "old", "c")], []),
    "trouble": ([(WEB, "trouble", "b"), (APP, "trouble", "c")], []),
    "tight": ([(WEB, "tight", "b")], [STUCK]),
    "shut": ([], [STUCK]),
    "empty": ([], []),
    "west": ([(WEB, "a", "b")], []),
}
"""By the name of the host or pool."""
HOSTS = [
    planapi.PlannedHost(
        host=name,
        memory=8192,
        headroom=819,
        vnics=100,
        before=planapi.HostLoad(vms=vms, memory=512 * vms, vnics=vms),
        after=planapi.HostLoad(vms=1, memory=512, vnics=1),
    )
    for name, vms in (("old", 2), ("b", 0))
]
STORY = ("planned", "copied", "switched", "done")


class FakeRelocations(FakeMoves):
    """Moves are made one after the other, a step each time that somebody waits; the second one from ``trouble`` is aborted."""

    def begin_relocations(self) -> None:
        self.relocating: dict[str, relocationapi.RelocationShown] = {}
        self.another_plan = False
        """Whether what there is has changed since the last plan was shown."""

    async def plan_moves(self, who: Caller, body: planapi.PlanRequest) -> planapi.PlanReply:
        name = body.rebalance or next(iter(body.evacuate), "")
        if body.rebalance == "nowhere":
            raise NotFoundError(f"there is no pool {name!r}")
        if name not in PLANS:
            return await super().plan_moves(who, body)
        moves, stuck = PLANS[name]
        rounds = [[planapi.PlannedMove(vm=vm, source=source, to=to, memory=512)] for vm, source, to in moves]
        return planapi.PlanReply(goal=body, revision=1, rounds=rounds, stuck=stuck, proven=True, hosts=HOSTS)

    async def relocate(self, who: Caller, body: relocationapi.RelocationRequest) -> relocationapi.RelocationShown:
        plan = await self.plan_moves(who, planapi.PlanRequest(evacuate=body.evacuate, rebalance=body.rebalance))
        if self.another_plan or body.expect not in {None, relocationapi.moves_digest(plan)}:
            raise ConflictError("the plan is another one by now than what you have seen")
        number, moves = len(self.relocating) + 1, sum(map(len, plan.rounds))
        made = relocationapi.Relocation(
            id=hashlib.sha256(f"relocation {number}".encode()).hexdigest()[:32], number=number, evacuate=body.evacuate,
            rebalance=body.rebalance, together=body.together, of_a_host=body.of_a_host, by=who.name, asked=NOW, state=Standing.RUNNING,
            version=1, moves=moves, done=0, aborted=0, under_way=0, waiting=moves, stuck=len(plan.stuck),
        )  # fmt: skip
        shown = relocationapi.RelocationShown(relocation=made, begun=[], plan=plan)
        self.relocating[made.id] = shown
        return shown

    async def relocations(self, who: Caller, *, before: int | None, limit: int) -> relocationapi.RelocationList:
        del who
        found = [
            each.relocation
            for each in reversed(self.relocating.values())
            if before is None or each.relocation.number < before
        ]
        more = found[limit - 1].number if len(found) > limit else None
        return relocationapi.RelocationList(relocations=found[:limit], before=more)

    async def relocation(
        self, who: Caller, name: str, *, seen: int | None, seconds: float
    ) -> relocationapi.RelocationShown:
        del who
        found = self._that(name)
        if seen is None:
            return found
        if found.relocation.version == seen and found.relocation.ended is None:
            await asyncio.sleep(min(seconds, 0.001))
            found = self._step(found)
        return msgspec.structs.replace(found, plan=None)

    async def stop_relocation(
        self, who: Caller, name: str, body: relocationapi.StopRequest
    ) -> relocationapi.RelocationShown:
        del body
        found = self._that(name)
        if found.relocation.ended is not None:
            raise ConflictError("this relocation is over")
        return self._set(found, found.begun, stop=who.name)

    def _that(self, name: str) -> relocationapi.RelocationShown:
        for each in self.relocating.values():
            if name in {each.relocation.id, str(each.relocation.number)}:
                return each
        raise NotFoundError(f"there is no relocation {name}")

    def _step(self, found: relocationapi.RelocationShown) -> relocationapi.RelocationShown:
        assert found.plan is not None
        planned = [move for each in found.plan.rounds for move in each]
        *before, last = [*found.begun] or [None]
        relocation = found.relocation
        at = NOW + timedelta(seconds=relocation.version)
        if last is not None and last.ended is None:
            state = STORY[STORY.index(last.state) + 1]
            if last.source == "trouble" and last.vm == APP and state == "switched":
                gone = msgspec.structs.replace(last, state="aborted", why="host c: no port is free", ended=at)
                why = f"{APP}: host c: no port is free"
                return self._set(found, [*before, gone], state=Standing.FAILED, why=why, ended=at)
            ended = at if state == "done" else None
            return self._set(found, [*before, msgspec.structs.replace(last, state=state, ended=ended)])
        if relocation.stop:
            why = f"{relocation.stop} has stopped it"
            return self._set(found, found.begun, state=Standing.STOPPED, why=why, ended=at)
        if len(found.begun) == len(planned):
            return self._set(found, found.begun, state=Standing.DONE, ended=at)
        move = planned[len(found.begun)]
        new = relocationapi.RelocatedVm(
            number=len(found.begun) + 1, vm=move.vm, source=move.source, to=move.to, state="planned", asked=at
        )
        return self._set(found, [*found.begun, new])

    def _set(
        self, found: relocationapi.RelocationShown, begun: Sequence[relocationapi.RelocatedVm], **what: Any
    ) -> relocationapi.RelocationShown:
        states = [each.state for each in begun]
        done, aborted = states.count("done"), states.count("aborted")
        relocation = msgspec.structs.replace(
            found.relocation, version=found.relocation.version + 1, done=done, aborted=aborted,
            under_way=len(begun) - done - aborted, waiting=found.relocation.moves - len(begun), **what,
        )  # fmt: skip
        shown = msgspec.structs.replace(found, relocation=relocation, begun=begun)
        self.relocating[relocation.id] = shown
        return shown
