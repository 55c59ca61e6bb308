"""The audit log: read, compared with what it was, taken away in a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from serai.model.audit_trail import AuditTrail
from serai.model.checkpoint import Checkpoint, CheckpointError, Verify
from serai.model.merkle import consistency_proof, inclusion_proof, leaf_hash
from serai.model.tenancy import ROOT, Scope
from serai.store.ledger import ONLY, Ledger, whole
from serai.store.records import AuditLine, AuditPage, AuditProof, AuditVerdict
from serai.store.schema import AUDIT, HEAD

_BATCH: Final = 1000
"""Records read at once."""
_MOST_FAULTS: Final = 20
"""That are told: somebody must look at the log anyway."""


class Audit:
    """Reads it; who writes is the ledger, with every act."""

    def __init__(self, ledger: Ledger) -> None:
        """Read it there."""
        self._ledger = ledger

    @whole
    async def page(
        self, *, after: int | None, limit: int, scope: Scope = ROOT, who: str | None = None, verb: str | None = None
    ) -> AuditPage:
        """Return some records behind the one of number ``after``, oldest first: those of a scope and below."""
        asked = sa.select(AUDIT.c.seq, AUDIT.c.body).order_by(AUDIT.c.seq).limit(limit)
        if after is not None:
            asked = asked.where(AUDIT.c.seq > after)
        if scope != ROOT:
            asked = asked.where(
                sa.or_(AUDIT.c.scope == str(scope), AUDIT.c.scope.startswith(f"{scope}/", autoescape=True))
            )
        if who is not None:
            asked = asked.where(AUDIT.c.who == who)
        if verb is not None:
            asked = asked.where(AUDIT.c.verb == verb)
        async with self._ledger.reading() as connection:
            rows = (await connection.execute(asked)).all()
            size = (await connection.execute(sa.select(HEAD.c.size).where(HEAD.c.id == ONLY))).scalar_one()
        lines = [AuditLine(body=row.body, leaf_hash=leaf_hash(row.body)) for row in rows]
        return AuditPage(records=lines, size=size, after=rows[-1].seq if len(rows) == limit else None)

    @whole
    async def checkpoint(self) -> str:
        """Return the latest checkpoint: a signed note."""
        async with self._ledger.reading() as connection:
            note = await connection.execute(sa.select(HEAD.c.checkpoint).where(HEAD.c.id == ONLY))
            return str(note.scalar_one())

    async def proof(self, seq: int, since: int) -> AuditProof:
        """Return what proves that a record is in the log as its latest checkpoint has it, and that this continues the log of size ``since``.

        Raises:
            LookupError: there is no such record, or the log was never so large.
            StoreError: the database does not answer.
        """
        hashes: list[bytes] = []
        async with self._ledger.reading() as connection:
            head = (await connection.execute(sa.select(HEAD.c.size, HEAD.c.checkpoint).where(HEAD.c.id == ONLY))).one()
            body = (await connection.execute(sa.select(AUDIT.c.body).where(AUDIT.c.seq == seq))).scalar_one_or_none()
            if body is None or since > head.size:
                raise LookupError(f"the audit log has {head.size} records")
            rows = await connection.stream(sa.select(AUDIT.c.hash).order_by(AUDIT.c.seq))
            async for some in rows.scalars().partitions(_BATCH):
                hashes += some
        inclusion = await asyncio.to_thread(inclusion_proof, hashes, seq)
        consistency = await asyncio.to_thread(consistency_proof, hashes, since) if since else []
        return AuditProof(
            body=body, seq=seq, checkpoint=head.checkpoint, inclusion=tuple(inclusion), consistency=tuple(consistency)
        )

    async def verify(self, trusted: Iterable[str], verify: Verify) -> AuditVerdict:
        """Look at every record, and whether the log is what its own checkpoint, and earlier ones, say that it was.

        Args:
            trusted: checkpoints that were taken before, and kept elsewhere.
            verify: says whether the log's key has signed something.

        Raises:
            StoreError: the database does not answer.
        """
        trail = AuditTrail()
        faults: list[str] = []
        async with self._ledger.reading() as connection:
            head = (await connection.execute(sa.select(HEAD.c.size, HEAD.c.checkpoint).where(HEAD.c.id == ONLY))).one()
            believed = _believe(trail, head.checkpoint, verify, "the database's own checkpoint", faults)
            for note in trusted:
                _believe(trail, note, verify, "a checkpoint", faults)
            if believed is not None and believed != head.size:
                faults.append(f"the database counts {head.size} records, and its own checkpoint {believed}")
            rows = await connection.stream(sa.select(AUDIT).order_by(AUDIT.c.seq))
            async for some in rows.partitions(_BATCH):
                # There may be millions, and others have something to do, too.
                faults += await asyncio.to_thread(_look_at, trail, some)
                del faults[_MOST_FAULTS:]
        return AuditVerdict(size=trail.size, root=trail.root, faults=(*faults, *trail.verdict(believed)))

    async def export(self) -> AsyncIterator[bytes]:
        """Give all records, one a line, and the checkpoint that covers them as the last line: what ``model.audit_trail`` reads."""
        async with self._ledger.reading() as connection:
            asked = sa.select(HEAD.c.checkpoint).where(HEAD.c.id == ONLY)
            note = str((await connection.execute(asked)).scalar_one())
            rows = await connection.stream(sa.select(AUDIT.c.body).order_by(AUDIT.c.seq))
            async for (body,) in rows:
                yield body + b"\n"
        yield json.dumps({"checkpoint": note}, ensure_ascii=False).encode() + b"\n"


def _believe(trail: AuditTrail, note: str, verify: Verify, what: str, faults: list[str]) -> int | None:
    """Take a checkpoint into account; return how many records it covers, or None: it is not to be believed."""
    try:
        found = Checkpoint.opened(note, verify)
    except CheckpointError as error:
        faults.append(f"{what} cannot be believed: {error}")
        return None
    trail.expect(found)
    return found.size


def _look_at(trail: AuditTrail, rows: Sequence[sa.Row[Any]]) -> list[str]:
    faults = []
    for row in rows:
        trail.append(row.seq, row.body)
        if row.hash != leaf_hash(row.body):
            faults.append(f"record {row.seq} has been changed")
        elif not _is_found_by_what_it_says(row):
            faults.append(
                f"record {row.seq} cannot be found by what it says: its scope, person or verb has been changed"
            )
    return faults


def _is_found_by_what_it_says(row: sa.Row[Any]) -> bool:
    try:
        told = json.loads(row.body)
        return (told["scope"], told["who"], told["verb"]) == (row.scope, row.who, row.verb)
    except (ValueError, KeyError, TypeError):
        return False
