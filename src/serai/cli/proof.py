"""Whether the audit log has the receipt of a move, and is what this machine has seen of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from serai.cli.witness import Witness, kept
from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.model.merkle import continues, includes, leaf_hash
from serai.model.migration import Receipt
from serai.wire import api
from serai.wire.client import Client, ClientError
from serai.wire.moveapi import Move, MoveProof

_SECONDS: Final = 600.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at the proof of a receipt has found."""

    ok: bool
    seq: int = 0
    size: int = 0
    root: str = ""
    continues: bool = False
    """The log was compared with a checkpoint that this machine has seen before."""
    faults: Sequence[str] = ()


class NoReceiptError(ValueError):
    """There is nothing to prove."""


def proven(client: Client, move: Move, key: str | None) -> Verdict:
    """Have a receipt proven, and keep the checkpoint that it was proven by.

    Raises:
        NoReceiptError: the move has none.
        ClientError: the controller does not answer.
        WitnessError: what this machine has seen cannot be read.
    """
    if move.receipt is None:
        why = "never had a ticket" if move.ended else "is not over"
        raise NoReceiptError(f"move {move.number} {why}: there is no receipt to be proven")
    file = kept(os.environ, client.url)
    seen = Witness.read(file)
    seen = msgspec.structs.replace(seen, key=key) if key else seen
    before = Checkpoint.parse(seen.notes[-1]) if seen.notes else None
    params = {"since": before.size if before else None}
    try:
        proof = client.ask("GET", f"/v1/moves/{move.id}/proof", MoveProof, params=params, seconds=_SECONDS)
    except ClientError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return Verdict(ok=False, faults=[str(error)])  # the log is smaller than it was
    verdict = judged(move, proof, seen, before)
    if verdict.ok:
        now = Checkpoint.parse(proof.note)
        seen.having(api.Checkpoint(size=now.size, root=now.root.hex(), note=proof.note, key=proof.key)).write(file)
    return verdict


def judged(move: Move, proof: MoveProof, seen: Witness, before: Checkpoint | None) -> Verdict:
    """Look at a proof, and believe nothing that it does not prove."""
    try:
        now = Checkpoint.parse(proof.note)
        inclusion, consistency = (list(map(bytes.fromhex, part)) for part in (proof.inclusion, proof.consistency))
    except (CheckpointError, ValueError) as error:
        return Verdict(ok=False, faults=[f"this is no proof: {error}"])
    faults = seen.faults(api.Checkpoint(size=now.size, root=now.root.hex(), note=proof.note, key=proof.key))
    if not includes(leaf_hash(proof.record.encode()), proof.seq, now.size, now.root, inclusion):
        faults.append(f"what is shown as record {proof.seq} is not in the log")
    if before is not None and before.size and not continues(before.size, before.root, now.size, now.root, consistency):
        faults.append(f"the log is not what it was at {before.size} records, when this machine has seen it")
    faults += _compared(move, proof)
    return Verdict(
        ok=not faults, seq=proof.seq, size=now.size, root=now.root.hex(), continues=before is not None, faults=faults
    )


def _compared(move: Move, proof: MoveProof) -> list[str]:
    """Say where the record is not what the controller shows as the receipt."""
    try:
        told = json.loads(proof.record)
        seq, of, receipt = told["seq"], told["detail"]["move"], msgspec.convert(told["detail"]["receipt"], Receipt)
    except (ValueError, KeyError, TypeError):
        return [f"record {proof.seq} has no receipt"]
    if seq != proof.seq or of != move.id:
        return [f"record {proof.seq} is not that of move {move.number}"]
    if receipt != move.receipt:
        return [f"record {proof.seq} has another receipt than the one that is shown"]
    return []
