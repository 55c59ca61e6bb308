"""Brings the schema of a database up to date."""

from __future__ import annotations

import threading
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from serai.model.checkpoint import Signer
from serai.store.engine import WRITES, connect_blocking, is_postgresql, translated
from serai.store.errors import SchemaError
from serai.store.ledger import begin

_LOCK: Final = 0x5E7A1
"""Under this lock PostgreSQL's schema changes: controllers may start together. In SQLite whoever writes is alone."""
_ALONE: Final = threading.Lock()
"""Alembic has one idea, for the whole process, of what it is working on."""
_VERSIONS: Final = "alembic_version"


def migrate(url: sa.URL, signer: Signer) -> None:
    """Make all tables of a new database, or change those of an older version; all of it, or nothing. It blocks.

    Raises:
        SchemaError: a newer version has written it, or something that is not ours.
        StoreError: it does not answer, or is full.
    """
    with translated(), _ALONE:
        engine = connect_blocking(url)
        try:
            with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
                if is_postgresql(engine.dialect):
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                with as_file(files("serai.store") / "migrations") as directory:
                    _upgrade(connection, directory)
                begin(connection, signer)
        finally:
            engine.dispose()


def _upgrade(connection: sa.Connection, directory: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    tables = set(sa.inspect(connection).get_table_names())
    if _VERSIONS not in tables and tables:
        raise SchemaError(
            f"this database holds tables that are not ours, such as {min(tables)}: give us one of our own"
        )
    held = connection.execute(sa.text(f"SELECT version_num FROM {_VERSIONS}")).scalars().all() if tables else []  # noqa: S608 (a constant)
    if any(version not in {script.revision for script in scripts.walk_revisions()} for version in held):
        raise SchemaError(
            f"the database has schema {held[0]}, which this version does not know, as a newer one made it: update this controller"
        )
    if list(held) == scripts.get_heads():
        return
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaError(f"the schema of the database cannot be brought up to date: {error}") from error
