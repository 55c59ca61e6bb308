"""All that a controller remembers, in one database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncEngine

from serai.model.checkpoint import Signer
from serai.store.audit import Audit
from serai.store.engine import WRITES, address, connect, is_postgresql
from serai.store.errors import SchemaError
from serai.store.hosts import Hosts
from serai.store.leadership import Leadership, leader
from serai.store.ledger import ONLY, Ledger, translated
from serai.store.people import People
from serai.store.proposals import Proposals
from serai.store.records import Leader, Marks
from serai.store.revisions import Revisions
from serai.store.schema import HEAD

_MIGRATING = 0x5E7A1
"""The lock under which PostgreSQL's schema changes: controllers may start together."""


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
        engine = connect(address(url))
        try:
            with translated():
                await _migrate(engine)
            ledger = Ledger(engine, signer)
            await ledger.begin()
        except BaseException:
            await engine.dispose()
            raise
        return cls(ledger)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._ledger.engine.dispose()

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

    async def leader(self, shard: str) -> Leader | None:
        """Return who leads a shard, or led it last.

        Raises:
            StoreError: the database does not answer.
        """
        return await leader(self._ledger, shard)


async def _migrate(engine: AsyncEngine) -> None:
    async with engine.execution_options(**{WRITES: True}).begin() as connection:
        if is_postgresql(engine.dialect):
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        with as_file(files("serai.store") / "migrations") as directory:
            await connection.run_sync(_upgrade, directory)


def _upgrade(connection: sa.Connection, directory: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if sa.inspect(connection).has_table("alembic_version"):
        held = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        if held is not None and held not in known:
            raise SchemaError(f"the database has schema {held}, of a newer version than this: update this controller")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaError(f"the schema of the database cannot be brought up to date: {error}") from error
