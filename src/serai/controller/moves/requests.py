"""What people want of moves: to begin one, to see how far it has come, to abort it, to have its receipt proven."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.errors import ConflictError, NotFoundError
from serai.controller.moves.moves import Moves
from serai.controller.moves.turns import CannotMoveError
from serai.controller.views import MOST, require
from serai.migration.machine import after
from serai.migration.receipt import together
from serai.migration.states import OVER, Command, Event, State
from serai.model.tenancy import ROOT
from serai.store.records import Entry, MoveRecord
from serai.store.store import Store
from serai.wire.keys import AuditSigner
from serai.wire.moveapi import AbortRequest, Move, MoveList, MoveProof, MoveRequest

TAKEN_SECONDS: Final = 5.0
"""How long whoever asks for a move waits to hear that it has begun, or cannot."""
_POLL_SECONDS: Final = 0.2
"""How often a controller that does not lead looks again."""


class MoveRequests:
    """Answers them at any controller: what is wanted is written down, and done by the one that leads."""

    def __init__(
        self, store: Store, current: Current, moves: Moves, signer: AuditSigner, *, clock: Callable[[], datetime]
    ) -> None:
        """``signer`` is the audit log's."""
        self._store, self._current, self._moves, self._signer, self._clock = store, current, moves, signer, clock

    async def ask(self, who: Caller, request: MoveRequest) -> Move:
        """Have a VM moved.

        Raises:
            ForbiddenError: this person may not.
            NotFoundError: there is no such VM, or no such host.
            ConflictError: it cannot be moved there, as far as is known.
            MoveError: it is being moved already.
        """
        require(who, Verb.MOVE)
        vm = (await self._current.catch_up()).catalog.world.vms.get(request.vm)
        if vm is None:
            raise NotFoundError(f"there is no VM {request.vm!r}: name it by its path, such as /acme/shop:web")
        host = await self._store.hosts.one(request.to)
        if host is None or host.revoked is not None:
            raise NotFoundError(f"no host {request.to!r} has joined: `serai host list` has those that have")
        await self._store.moves.require_none(vm.path)
        if self._moves.leads:
            try:
                self._moves.require_possible(vm, request.to)
            except CannotMoveError as error:
                raise ConflictError(str(error)) from error
        now = self._clock()
        entry = Entry(
            who=who.name, verb="move", object=f"VirtualMachine {vm.path}", scope=ROOT, outcome="done",
            detail={"to": request.to, "token": who.token},
        )  # fmt: skip
        move = await self._store.moves.ask(
            id_=secrets.token_hex(16), vm=vm.path, to=request.to, by=who.name, entry=entry, now=now
        )
        self._moves.nudge()
        found = await self._otherwise(move, TAKEN_SECONDS)
        if found.state is State.ABORTED and found.receipt is None:
            raise ConflictError(found.why)
        return told(found)

    async def moves(
        self, who: Caller, *, vm: str | None, host: str | None, still_open: bool, before: int | None, limit: int
    ) -> MoveList:
        """List moves, the latest first.

        Raises:
            ForbiddenError: this person may not see hosts.
        """
        require(who, Verb.READ_HOSTS)
        most = min(limit, MOST)
        found = await self._store.moves.latest(vm=vm, host=host, still_open=still_open, before=before, limit=most + 1)
        page = found[:most]
        return MoveList(moves=list(map(told, page)), before=page[-1].number if len(found) > most else None)

    async def move(self, who: Caller, name: str, *, seen: int | None, seconds: float) -> Move:
        """Show a move; with ``seen``, as soon as its version is another than that, or it is over, or ``seconds`` are.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: there is no such move.
        """
        require(who, Verb.READ_HOSTS)
        found = await self._found(name)
        if seen is not None and found.version == seen:
            found = await self._otherwise(found, seconds)
        return told(found)

    async def abort(self, who: Caller, name: str, request: AbortRequest) -> Move:
        """Have a move aborted.

        Raises:
            ForbiddenError: this person may not.
            NotFoundError: there is no such move.
            ConflictError: it is too late.
            MoveError: it is over.
        """
        require(who, Verb.MOVE)
        found = await self._found(name)
        if Command.REFUSE in after(found.state, Event.ABORT).commands:
            raise ConflictError(_too_late(found))
        entry = Entry(
            who=who.name, verb="abort a move", object=f"VirtualMachine {found.vm}", scope=ROOT, outcome="done",
            detail={"why": request.why, "token": who.token},
        )  # fmt: skip
        await self._store.moves.ask_abort(found.id, who.name, entry, self._clock())
        self._moves.nudge()
        return told(await self._otherwise(found, TAKEN_SECONDS))

    async def proof(self, who: Caller, name: str, *, since: int) -> MoveProof:
        """Prove that the audit log has a receipt, and that it continues what it was at the size ``since``.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: there is no such move, or no such log.
            ConflictError: it is not over.
        """
        require(who, Verb.READ_HOSTS)
        found = await self._found(name)
        if found.audit is None:
            raise ConflictError(f"move {found.number} is not over: there is nothing to prove yet")
        try:
            proof = await self._store.audit.proof(found.audit, since)
        except LookupError as error:
            raise NotFoundError(
                f"{error}, and what is to be proven is about more: has the database been set back?"
            ) from error
        return MoveProof(
            record=proof.body.decode(), seq=proof.seq, note=proof.checkpoint,
            key=base64.b64encode(self._signer.public).decode(), inclusion=[each.hex() for each in proof.inclusion],
            consistency=[each.hex() for each in proof.consistency],
        )  # fmt: skip

    async def _found(self, name: str) -> MoveRecord:
        found = await self._store.moves.one(name)
        if found is None:
            raise NotFoundError(f"there is no move {name}")
        return found

    async def _otherwise(self, seen: MoveRecord, seconds: float) -> MoveRecord:
        """Return a move as soon as it is otherwise than it was seen, or the time is over."""
        return await self._moves.news.until(
            lambda: self._found(seen.id), lambda found: found.version != seen.version or found.state in OVER,
            seconds=seconds, every=_POLL_SECONDS,
        )  # fmt: skip


def told(move: MoveRecord) -> Move:
    """Return a move as the API tells it."""
    return Move(
        id=move.id, number=move.number, vm=move.vm, source=move.source, to=move.to, by=move.by, asked=move.asked,
        epoch=move.epoch, state=move.state, since=move.since, reached=move.reached, version=move.version, why=move.why or move.note,
        ended=move.ended, facts=move.receipt.facts if move.receipt else together(move.here, move.there, move.digest),
        receipt=move.receipt,
    )  # fmt: skip


def _too_late(move: MoveRecord) -> str:
    if move.state in OVER:
        return f"move {move.number} is over: it was {'made' if move.state is State.DONE else 'aborted'}"
    if move.state is State.SWITCHED:
        return f"move {move.number} cannot be aborted any more: the guest is stopped at {move.source}, and runs at {move.to} or there in a moment"
    return f"move {move.number} cannot be aborted any more: {move.vm} runs at host {move.to}; move it back instead"
