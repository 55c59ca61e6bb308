"""The audit log: read, compared with what it was, taken away in a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Final

import sqlalchemy as sa

from serai.model.audit_trail import AuditTrail
from serai.model.checkpoint import Checkpoint, CheckpointError, Verify
from serai.model.merkle import leaf_hash
from serai.model.tenancy import ROOT, Scope
from serai.store.ledger import ONLY, Ledger
from serai.store.records import AuditLine, AuditPage, AuditVerdict
from serai.store.schema import AUDIT, HEAD

_BATCH: Final = 2000
"""Records read at once."""


class Audit:
    """Reads it; who writes is the ledger, with every act."""

    def __init__(self, ledger: Ledger) -> None:
        """Read it there."""
        self._ledger = ledger

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

    async def checkpoint(self) -> str:
        """Return the latest checkpoint: a signed note."""
        async with self._ledger.reading() as connection:
            note = await connection.execute(sa.select(HEAD.c.checkpoint).where(HEAD.c.id == ONLY))
            return str(note.scalar_one())

    async def verify(self, trusted: Iterable[str], verify: Verify) -> AuditVerdict:
        """Look at every record, and whether the log is what its own checkpoint, and earlier ones, say that it was.

        Args:
            trusted: checkpoints that were taken before, and kept elsewhere.
            verify: says whether the log's key has signed something.
        """
        notes = list(trusted)
        async with self._ledger.reading() as connection:
            asked = sa.select(HEAD.c.checkpoint).where(HEAD.c.id == ONLY)
            own = str((await connection.execute(asked)).scalar_one())
            trail = AuditTrail()
            faults = []
            for note, whose in ((own, "the database's own checkpoint"), *((note, "a checkpoint") for note in notes)):
                try:
                    trail.expect(Checkpoint.opened(note, verify))
                except CheckpointError as error:
                    faults.append(f"{whose} cannot be believed: {error}")
            last = Checkpoint.parse(own).size if not faults else None
            rows = await connection.stream(sa.select(AUDIT.c.seq, AUDIT.c.body).order_by(AUDIT.c.seq))
            async for seq, body in rows:
                trail.append(seq, body)
        verdict = trail.verdict(last)
        return AuditVerdict(size=trail.size, root=trail.root, faults=(*faults, *verdict))

    async def export(self) -> AsyncIterator[bytes]:
        """Give all records, one a line, and the checkpoint that covers them as the last line: what ``model.audit_trail`` reads."""
        async with self._ledger.reading() as connection:
            asked = sa.select(HEAD.c.checkpoint).where(HEAD.c.id == ONLY)
            note = str((await connection.execute(asked)).scalar_one())
            rows = await connection.stream(sa.select(AUDIT.c.body).order_by(AUDIT.c.seq))
            async for (body,) in rows:
                yield body + b"\n"
        yield json.dumps({"checkpoint": note}, ensure_ascii=False).encode() + b"\n"
