"""The audit log, for those who may read it; and whether it still is what hosts were told that it was."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
import structlog

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.drafts import scope_of
from serai.controller.views import MOST, require
from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.model.tenancy import ROOT
from serai.store.store import Store
from serai.wire import api
from serai.wire.keys import AuditSigner

_log = structlog.get_logger(__name__)

_MOST_WITNESSED: Final = 64
"""So many different checkpoints of hosts wait to be looked at; hosts that are up to date all have the same."""


class Audit:
    """Reads it, and listens to its witnesses: hosts keep the latest checkpoint that they were given."""

    def __init__(self, store: Store, signer: AuditSigner) -> None:
        """``signer`` knows its own signatures."""
        self._store, self._signer = store, signer
        self._seen: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(_MOST_WITNESSED)
        self.trouble = ""
        """What does not fit together; empty while all does."""

    # For people

    async def page(
        self, who: Caller, *, after: int | None, limit: int, scope: str | None, verb: str | None, by: str | None
    ) -> api.AuditPage:
        """Return some of it, oldest first.

        Raises:
            ForbiddenError: this person may not read what is in that scope.
            InvalidError: that is no scope.
        """
        within = ROOT if scope is None else scope_of("scope", scope)
        require(who, Verb.READ_AUDIT, within)
        page = await self._store.audit.page(after=after, limit=min(limit, MOST), scope=within, who=by, verb=verb)
        return api.AuditPage(
            records=[_record(each.body, each.leaf_hash) for each in page.records], size=page.size, after=page.after
        )

    async def checkpoint(self, who: Caller) -> api.Checkpoint:
        """Return what the log's tree is now, signed: whoever keeps it can tell later whether the log has been rewritten."""
        require(who, Verb.READ_AUDIT)
        note = await self._store.audit.checkpoint()
        told = Checkpoint.parse(note)
        key = base64.b64encode(self._signer.public).decode()
        return api.Checkpoint(size=told.size, root=told.root.hex(), note=note, key=key)

    async def export(self, who: Caller) -> AsyncIterator[bytes]:
        """Return all of it, a record a line; the last line is a checkpoint."""
        require(who, Verb.READ_AUDIT)
        return self._store.audit.export()

    async def verify(self, who: Caller, checkpoints: Sequence[str]) -> api.AuditVerdict:
        """Look at every record, and whether the log is a continuation of what it was at each of ``checkpoints``."""
        require(who, Verb.READ_AUDIT)
        verdict = await self._store.audit.verify(checkpoints, self._signer.verify)
        return api.AuditVerdict(ok=verdict.ok, size=verdict.size, root=verdict.root.hex(), faults=list(verdict.faults))

    # Witnesses

    def witnessed(self, host: str, note: str) -> None:
        """A host tells the latest checkpoint that it was given."""
        if note and note not in self._seen and not self._waiting.full():
            self._seen.add(note)
            self._waiting.put_nowait(note)
            _log.debug("a checkpoint to compare the audit log with", host=host)

    async def run(self) -> None:
        """Compare the log with what its witnesses hold, until cancelled."""
        while True:
            notes = [await self._waiting.get()]
            await asyncio.sleep(1)  # more hosts may tell: all is looked at in one go
            while not self._waiting.empty():
                notes.append(self._waiting.get_nowait())
            try:
                verdict = await self._store.audit.verify(notes, self._signer.verify)
            except (OSError, CheckpointError) as error:
                _log.error("the audit log cannot be compared with what hosts hold", error=str(error))
                continue
            if not verdict.ok:
                self.trouble = f"the audit log is not what hosts were told that it was: {verdict.faults[0]}"
                _log.error("the audit log is not what hosts were told that it was", faults=list(verdict.faults))


def _record(body: bytes, leaf: bytes) -> api.AuditRecord:
    told = json.loads(body)
    told.pop("revision", None)
    return msgspec.convert({**told, "leaf": leaf.hex()}, api.AuditRecord)
