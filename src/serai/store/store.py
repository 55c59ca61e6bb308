"""All that a controller remembers, in one database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Self

import sqlalchemy as sa

from serai.model.checkpoint import Signer
from serai.store.audit import Audit
from serai.store.engine import address, connect
from serai.store.hosts import Hosts
from serai.store.leadership import Leadership, leader
from serai.store.ledger import ONLY, Ledger, whole
from serai.store.migrate import migrate
from serai.store.moves import Moves
from serai.store.people import People
from serai.store.proposals import Proposals
from serai.store.records import Leader, Marks
from serai.store.relocations import Relocations
from serai.store.revisions import Revisions
from serai.store.schema import HEAD


class Store:
    """A database, open."""

    def __init__(self, ledger: Ledger) -> None:
        """Use ``open``."""
        self._ledger = ledger
        self.revisions = Revisions(ledger)
        """Resources and their history."""
        self.proposals = Proposals(ledger)
        """What waits for a second person."""
        self.people = People(ledger)
        """People and their tokens."""
        self.hosts = Hosts(ledger)
        """Hosts and what is known of them."""
        self.moves = Moves(ledger)
        """Moves of VMs, and their receipts."""
        self.relocations = Relocations(ledger)
        """Moves that one plan made."""
        self.audit = Audit(ledger)
        """What was done."""

    @classmethod
    async def open(cls, url: str, *, signer: Signer) -> Self:
        """Open a database, and bring its schema up to date.

        Args:
            url: ``sqlite:///FILE`` or ``postgresql://...``.
            signer: signs the checkpoints of the audit log.

        Raises:
            UrlError: that is no address of a database.
            SchemaError: a newer version has written it.
            StoreError: it does not answer.
        """
        found = address(url)
        await asyncio.to_thread(migrate, found, signer)
        return cls(Ledger(connect(found), signer))

    async def close(self) -> None:
        """Let go of all connections, once all that was begun is done."""
        await self._ledger.close()

    @whole
    async def marks(self) -> Marks:
        """Return what tells that something has changed. It costs little.

        Raises:
            StoreError: the database does not answer.
        """
        async with self._ledger.reading() as connection:
            asked = sa.select(HEAD.c.revision, HEAD.c.hosts).where(HEAD.c.id == ONLY)
            row = (await connection.execute(asked)).one()
        return Marks(head=row.revision, hosts=row.hosts)

    def leadership(self, shard: str, url: str, *, clock: Callable[[], datetime]) -> Leadership:
        """Return this controller's part in who leads a shard; ``url`` is where agents reach it."""
        return Leadership(self._ledger, shard, url, clock=clock)

    @whole
    async def leader(self, shard: str) -> Leader | None:
        """Return who leads a shard, or led it last.

        Raises:
            StoreError: the database does not answer.
        """
        return await leader(self._ledger, shard)
