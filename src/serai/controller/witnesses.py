"""The witnesses of the audit log: hosts keep the latest checkpoint that they were given, and tell it when they connect.

Who sets the database back, or writes another log into it, cannot make them forget. One host that lies can accuse nobody: what it
tells must be signed by the log's own key.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import zlib
from collections.abc import Collection
from typing import Final, Protocol

import structlog

from serai.model.checkpoint import Checkpoint, CheckpointError
from serai.store.errors import StoreError
from serai.store.store import Store
from serai.wire.keys import AuditSigner
from serai.wire.remote import FromController, Witness

_log = structlog.get_logger(__name__)

TOLD_SECONDS: Final = 60.0
"""How old may be what the hosts that are connected keep."""
_SHARES: Final = 30
"""In so many shares are they told."""
_MOST: Final = 64
"""So many checkpoints wait to be compared; hosts that are up to date all have the same."""
_REMEMBERED: Final = 1024
"""So many that fitted are not compared again."""


class Endpoint(Protocol):
    """Where agents are connected."""

    def connected(self) -> Collection[str]:
        """The hosts whose agents are there."""
        ...

    def send(self, host: str, message: FromController) -> int | None:
        """Send something to the agent of a host."""
        ...


class Witnesses:
    """Hears what hosts hold, and gives them what to hold next."""

    def __init__(self, store: Store, signer: AuditSigner) -> None:
        """``signer`` knows its own signatures."""
        self._store, self._signer = store, signer
        self._fitted: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._waiting: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_MOST)
        self._endpoint: Endpoint | None = None
        self.trouble = ""
        """What does not fit together; empty while all does."""

    def serve(self, endpoint: Endpoint) -> None:
        """Tell agents through this."""
        self._endpoint = endpoint

    def told(self, host: str, note: str) -> None:
        """A host tells the latest checkpoint that it was given; empty: none."""
        if note and note not in self._fitted and not self._waiting.full():
            self._waiting.put_nowait((host, note))

    async def run(self) -> None:
        """Compare the log with what hosts tell, and tell them how it goes on, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._compare())
            tasks.create_task(self._tell())

    async def _compare(self) -> None:
        while True:
            heard = [await self._waiting.get()]
            await asyncio.sleep(1)  # more hosts may tell: all is looked at in one go
            while not self._waiting.empty():
                heard.append(self._waiting.get_nowait())
            notes = {note for host, note in heard if self._is_ours(host, note)}
            if not notes:
                continue
            try:
                verdict = await self._store.audit.verify(notes, self._signer.verify)
            except StoreError as error:
                _log.error("the audit log cannot be compared with what hosts hold", error=str(error))
                continue
            if verdict.ok:
                self._remember(notes)
            else:
                self.trouble = f"the audit log is not what hosts were told that it was: {verdict.faults[0]}"
                hosts = sorted({host for host, _ in heard})
                _log.error("the audit log is not what it was", faults=list(verdict.faults), hosts=hosts)

    def _is_ours(self, host: str, note: str) -> bool:
        try:
            Checkpoint.opened(note, self._signer.verify)
        except CheckpointError as error:
            _log.warning("a host holds a checkpoint that was never given", host=host, why=str(error))
            return False
        return True

    def _remember(self, notes: Collection[str]) -> None:
        self._fitted.update(dict.fromkeys(notes))
        while len(self._fitted) > _REMEMBERED:
            self._fitted.popitem(last=False)

    async def _tell(self) -> None:
        """Tell a share of the hosts at a time: each of them writes it to its disk."""
        told = [""] * _SHARES
        for share in itertools.cycle(range(_SHARES)):
            await asyncio.sleep(TOLD_SECONDS / _SHARES)
            try:
                note = await self._store.audit.checkpoint()
            except StoreError:  # others tell that
                continue
            if note != told[share] and self._endpoint is not None:
                told[share] = note
                for host in self._endpoint.connected():
                    if zlib.crc32(host.encode()) % _SHARES == share:
                        self._endpoint.send(host, Witness(checkpoint=note))
