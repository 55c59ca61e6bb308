"""What a database is set to, for those who look after it; nothing is changed, and none is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sqlalchemy as sa

from serai.store.engine import address, connect, file_of, is_postgresql, translated
from serai.store.errors import UnavailableError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What matters."""

    schema: str
    """The step of the schema; empty: there is none yet."""
    durability: Mapping[str, str]
    """What decides whether an acknowledged change outlives a loss of power."""
    unsafe: tuple[str, ...]
    """How those should be set that are not well, such as ``fsync = on``."""


async def settings_of(url: str) -> Settings:
    """Ask a database what it is set to.

    Raises:
        UrlError: that is no address of a database.
        StoreError: it does not answer.
    """
    where = address(url)
    file = file_of(where)
    if file is not None and not file.exists():
        raise UnavailableError(f"{file} is not there yet: the first start of a controller makes it")
    engine = connect(where)
    try:
        with translated():
            async with engine.connect() as connection:
                held = ""
                if await connection.run_sync(lambda c: sa.inspect(c).has_table("alembic_version")):
                    held = str(
                        (
                            await connection.execute(sa.text("SELECT version_num FROM alembic_version"))
                        ).scalar_one_or_none()
                        or ""
                    )
                if is_postgresql(engine.dialect):
                    wanted = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
                    found = {
                        name: str((await connection.execute(sa.text(f"SHOW {name}"))).scalar_one()) for name in wanted
                    }
                else:
                    wanted = {"journal_mode": "wal", "synchronous": "2"}
                    found = {
                        name: str((await connection.execute(sa.text(f"PRAGMA {name}"))).scalar_one()) for name in wanted
                    }
    finally:
        await engine.dispose()
    unsafe = tuple(f"{name} = {value}" for name, value in wanted.items() if found[name] not in {value, "remote_apply"})
    return Settings(schema=held, durability=found, unsafe=unsafe)
