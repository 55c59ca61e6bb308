"""VMs that hypervisors move by themselves: a move is made of it, with a ticket and a receipt, and the destination is ready before the guest comes.

Only the controller that leads is asked: hosts are connected to no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from serai.controller.current import Current
from serai.controller.moves.moves import Moves
from serai.controller.moves.turns import CannotMoveError
from serai.migration.states import OVER, State
from serai.model.migration import Facts
from serai.model.tenancy import ROOT
from serai.store.errors import MoveError
from serai.store.records import Entry, MoveRecord
from serai.store.store import Store

READY_SECONDS: Final = 3.0
"""How long a hypervisor is made to wait in all; its agent's patience is longer."""
SETTLE_SECONDS: Final = 0.5
"""How long what hosts tell may lag behind what a hypervisor does already."""
_POLL_SECONDS: Final = 0.05
_NOT_READY: Final = frozenset({State.WAITING, State.PLANNED})
_READY: Final = frozenset({State.PREPARED, State.COPIED})
_NEARLY_OVER: Final = frozenset({State.LIVE, State.CARRIED, State.FENCED, State.ABORTING})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Escorted:
    """What is said to a hypervisor that is about to take a VM in."""

    objection: str = ""
    """Why it must not; empty: it may."""
    warning: str = ""
    """Why the VM's connections stay behind; empty: they come along."""


class Escorts:
    """Takes the flows of such VMs along."""

    def __init__(self, store: Store, current: Current, moves: Moves, *, clock: Callable[[], datetime]) -> None:
        """Take along nobody yet."""
        self._store, self._current, self._moves, self._clock = store, current, moves, clock

    async def escort(self, vm: str, to: str, *, encrypted: bool | None) -> Escorted:
        """Make a move of it that a hypervisor is about to take a VM in, and return when the VM may come.

        Args:
            vm: its path.
            to: the host that takes it in.
            encrypted: the guest's memory comes over TLS; None: nobody can tell.

        Raises:
            StoreError: the database does not answer.
        """
        by, until = f"hypervisor of host {to}", time.monotonic() + READY_SECONDS
        before = self._moves.of(vm)
        if before is not None and before.to == to and (before.state in _READY | {State.PLANNED} or not before.migrate):
            if before.state in _READY:
                self._moves.entered(before.id)
            if before.state in _READY | _NOT_READY:
                return await self._ready(before, by, until)
        if before is not None:
            if before.migrate and before.state not in _NEARLY_OVER:
                return Escorted(objection=_refusal(before))
            if not before.migrate and before.state in _READY | _NOT_READY:
                # A hypervisor moves a VM to one host at a time: it has given that one up.
                await self._abort(before, by, f"it is moved to host {to} instead")
            if not await self._is_over(before, until):
                return Escorted(
                    objection=f"move {before.number} of it, to host {before.to}, is not over yet: try again in a moment"
                )
        begun = await self._begin(vm, to, by, until, Facts(encrypted=encrypted))
        return begun if isinstance(begun, Escorted) else await self._ready(begun, by, until)

    async def _begin(self, vm: str, to: str, by: str, until: float, there: Facts) -> MoveRecord | Escorted:
        entry = Entry(who=by, verb="move", object=f"VirtualMachine {vm}", scope=ROOT, outcome="done", detail={"to": to})
        settled = min(until, time.monotonic() + SETTLE_SECONDS)
        while True:
            known = self._current.edition.catalog.world.vms.get(vm)
            if known is None:
                return Escorted(objection=f"there is no VM {vm} any more")
            try:
                self._moves.require_possible(known, to)
                move = await self._store.moves.ask(
                    id_=secrets.token_hex(16), vm=vm, to=to, by=by, entry=entry, now=self._clock(), migrate=False, there=there,
                )  # fmt: skip
            except CannotMoveError as error:
                if time.monotonic() >= settled:
                    return Escorted(warning=f"its open connections stay behind, for it cannot be taken along: {error}")
            except MoveError as error:
                if time.monotonic() >= until:
                    return Escorted(objection=str(error))
            else:
                self._moves.asked(move)
                return move
            await asyncio.sleep(_POLL_SECONDS)

    async def _ready(self, move: MoveRecord, by: str, until: float) -> Escorted:
        """Wait until the destination holds the VM's rules, and takes its flows."""
        found = await self._when(move, lambda found: found.state not in _NOT_READY, until)
        if found.state in OVER | {State.ABORTING}:
            return Escorted(objection=f"it cannot be taken along: {found.why}")
        if found.state not in _NOT_READY:
            return Escorted()
        why = self._moves.lacking(found)
        if not move.migrate:
            await self._abort(move, by, why)
        return Escorted(objection=f"{why}: it stays where it is; try again")

    async def _is_over(self, move: MoveRecord, until: float) -> bool:
        return (await self._when(move, lambda found: found.state in OVER, until)).state in OVER

    async def _when(self, move: MoveRecord, holds: Callable[[MoveRecord], bool], until: float) -> MoveRecord:
        """Return a move as soon as something holds of it, or the time is over."""

        async def look() -> MoveRecord:
            return await self._store.moves.one(move.id) or move

        return await self._moves.news.until(look, holds, seconds=until - time.monotonic(), every=SETTLE_SECONDS)

    async def _abort(self, move: MoveRecord, by: str, why: str) -> None:
        entry = Entry(
            who=by, verb="abort a move", object=f"VirtualMachine {move.vm}", scope=ROOT, outcome="done", detail={"why": why}
        )  # fmt: skip
        with contextlib.suppress(MoveError):  # it is over
            await self._store.moves.ask_abort(move.id, by, entry, self._clock())
        self._moves.nudge()


def _refusal(move: MoveRecord) -> str:
    if move.state is State.WAITING:
        return f"move {move.number} of it, to host {move.to}, waits for its turn: let it, or abort it with `serai moves abort {move.number}`"
    return f"it is being moved to host {move.to}: that is move {move.number}"
