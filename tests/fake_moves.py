"""Moves with no hosts behind them, for tests of the HTTP API and of those who use it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serai.access.decide import Caller
from serai.controller.errors import ConflictError, InvalidError, NotFoundError
from serai.model.checkpoint import Checkpoint, Signer
from serai.model.merkle import consistency_proof, inclusion_proof, leaf_hash, root_of
from serai.model.migration import Facts, Receipt, Step, Ticket
from serai.wire import moveapi, planapi

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FACTS = Facts(
    digest="ab" * 32, flows_first=1000, flows_later=17, encrypted=True, gap_us=312_000,
)  # fmt: skip
STORY = ("planned", "prepared", "copied", "switched", "live", "carried", "done")


class FakeMoves:
    """Moves come one step further each time that somebody waits for it; one to ``trouble`` is aborted on its way."""

    key: Ed25519PrivateKey
    trail: list[bytes]

    def begin_moves(self) -> None:
        self.made_moves: dict[str, moveapi.Move] = {}
        self.trail = [b"one", b"two"]
        self.records: dict[str, int] = {}

    async def move_vm(self, who: Caller, body: moveapi.MoveRequest) -> moveapi.Move:
        if body.vm not in {"/acme/shop:web", "/acme/shop:app"}:
            raise NotFoundError(f"there is no VM {body.vm!r}: name it by its path, such as /acme/shop:web")
        if body.to == "a":
            raise ConflictError(f"{body.vm} runs at host a already")
        number = len(self.made_moves) + 1
        made = moveapi.Move(
            id=hashlib.sha256(f"{number}".encode()).hexdigest()[:32], number=number, vm=body.vm, source="a", to=body.to,
            by=who.name, asked=NOW, epoch=1, state="planned", since=NOW, reached=Step.PLANNED, version=2,
        )  # fmt: skip
        self.made_moves[made.id] = made
        return made

    async def plan_moves(self, who: Caller, body: planapi.PlanRequest) -> planapi.PlanReply:
        del who
        if bool(body.evacuate) == bool(body.rebalance):
            raise InvalidError("evacuate: name hosts to empty, or in rebalance a pool to level: one of both")
        if "nowhere" in body.evacuate:
            raise NotFoundError("there is no host 'nowhere': `serai host list` has those that there are")
        move = planapi.PlannedMove(vm="/acme/shop:web", source="a", to="b", memory=1024)
        stuck = planapi.StuckVm(vm="/acme/shop:app", host="a", why=["host b is without the tag pci"])
        one, none = planapi.HostLoad(vms=1, memory=1024, vnics=1), planapi.HostLoad(vms=0, memory=0, vnics=0)
        hosts = [
            planapi.PlannedHost(host=name, memory=8192, headroom=910, vnics=4095, before=before, after=after)
            for name, before, after in (("a", one, none), ("b", none, one))
        ]
        return planapi.PlanReply(
            goal=body, revision=1, rounds=[[move]], stuck=[stuck] if body.evacuate else [], proven=True, hosts=hosts
        )

    async def moves(
        self, who: Caller, *, vm: str | None, host: str | None, still_open: bool, before: int | None, limit: int
    ) -> moveapi.MoveList:
        del who
        found = [
            each
            for each in reversed(self.made_moves.values())
            if (vm is None or each.vm == vm)
            and (host is None or host in {each.source, each.to})
            and (not still_open or each.ended is None)
            and (before is None or each.number < before)
        ]
        return moveapi.MoveList(moves=found[:limit], before=found[limit - 1].number if len(found) > limit else None)

    async def move(self, who: Caller, name: str, *, seen: int | None, seconds: float) -> moveapi.Move:
        del who
        found = self._one(name)
        if seen is None or found.version != seen or found.ended is not None:
            return found
        await asyncio.sleep(min(seconds, 0.001))
        if found.to == "trouble" and found.state == "copied":
            return self._end(found, "aborted", "host trouble: the stream is malformed")
        state = STORY[STORY.index(found.state) + 1]
        if state == "done":
            return self._end(found, "done", "")
        return self._put(found, state=state, reached=Step(state))

    async def abort_move(self, who: Caller, name: str, body: moveapi.AbortRequest) -> moveapi.Move:
        del body
        found = self._one(name)
        if found.ended is not None:
            raise ConflictError(f"move {found.number} is over")
        return self._end(found, "aborted", f"{who.name} has aborted it")

    async def move_proof(self, who: Caller, name: str, *, since: int) -> moveapi.MoveProof:
        del who
        found = self._one(name)
        if found.receipt is None:
            raise ConflictError(f"move {found.number} is not over: there is nothing to prove yet")
        hashes = [leaf_hash(each) for each in self.trail]
        if since > len(hashes):
            raise NotFoundError(f"the audit log has {len(hashes)} records")
        seq = self.records[found.id]
        signer = cast("Signer", self)
        note = Checkpoint(origin=signer.origin, size=len(hashes), root=root_of(hashes)).signed(signer)
        return moveapi.MoveProof(
            record=self.trail[seq].decode(), seq=seq, note=note, key=base64.b64encode(signer.public).decode(),
            inclusion=[each.hex() for each in inclusion_proof(hashes, seq)],
            consistency=[each.hex() for each in consistency_proof(hashes, since)] if since else [],
        )  # fmt: skip

    def _one(self, name: str) -> moveapi.Move:
        for each in self.made_moves.values():
            if name in {each.id, str(each.number)}:
                return each
        raise NotFoundError(f"there is no move {name}")

    def _put(self, move: moveapi.Move, **what: Any) -> moveapi.Move:
        changed = msgspec.structs.replace(move, version=move.version + 1, **what)
        self.made_moves[move.id] = changed
        return changed

    def _end(self, move: moveapi.Move, state: str, why: str) -> moveapi.Move:
        ticket = Ticket(
            move=move.id, epoch=1, vm=move.vm, domain="web", vnics=[7], source=move.source, to=move.to, until=NOW.timestamp() + 60
        )  # fmt: skip
        receipt = Receipt(
            ticket=ticket, by=move.by, began=NOW.timestamp(), ended=NOW.timestamp() + 3.5, made=not why, reached=Step.FENCED if not why else move.reached,
            facts=FACTS if not why else Facts(), why=why,
        )  # fmt: skip
        told = {
            "seq": len(self.trail),
            "verb": "end a move",
            "detail": {"move": move.id, "receipt": msgspec.to_builtins(receipt)},
        }
        self.records[move.id] = len(self.trail)
        self.trail.append(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())
        return self._put(
            move, state=state, ended=NOW, why=why, receipt=receipt, reached=receipt.reached, facts=receipt.facts
        )
