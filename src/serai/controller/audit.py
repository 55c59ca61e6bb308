"""The audit log, for those who may read it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence

import msgspec

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.requests import scope_of
from serai.controller.views import MOST, require
from serai.model.checkpoint import Checkpoint
from serai.model.tenancy import ROOT
from serai.store.store import Store
from serai.wire import api
from serai.wire.keys import AuditSigner


class Audit:
    """Reads it."""

    def __init__(self, store: Store, signer: AuditSigner) -> None:
        """``signer`` knows its own signatures."""
        self._store, self._signer = store, signer

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


def _record(body: bytes, leaf: bytes) -> api.AuditRecord:
    told = json.loads(body)
    told.pop("revision", None)
    return msgspec.convert({**told, "leaf": leaf.hex()}, api.AuditRecord)
