"""What is taken away comes back as it was, or nothing is touched."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import stat
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from bench.postgres import cluster
from credentials import Site
from databases import NOW, change
from serai.controller.backup import BackupError, backup, restore
from serai.controller.config import Config
from serai.store.leadership import advisory_key
from serai.store.store import Store


def config(directory: Path, database: str | None = None) -> Config:
    return Config(database=database or f"sqlite:///{directory}/serai.db", keys=directory / "keys", names=["localhost"])


def fill(at: Config, *bodies: str) -> None:
    """Commit once for each body."""

    async def filling() -> None:
        signer = Site.make(at.keys.parent).keys.audit_signer()
        store = await Store.open(at.database, signer=signer)
        for body in bodies:
            await store.revisions.commit(change(await store.revisions.head(), {"/a:b": body}), NOW)
        await store.close()

    asyncio.run(filling())


def bodies(at: Config) -> list[str | None]:
    async def reading() -> list[str | None]:
        signer = Site.make(at.keys.parent).keys.audit_signer()
        store = await Store.open(at.database, signer=signer)
        found = [body for each in await store.revisions.since(0) for body in each.writes.values()]
        verdict = await store.audit.verify([], signer.verify)
        assert verdict.ok
        await store.close()
        return found

    return asyncio.run(reading())


@pytest.fixture
def made(tmp_path: Path) -> Config:
    at = config(tmp_path / "here")
    at.keys.parent.mkdir()
    fill(at, "1", "2")
    return at


def test_all_of_it_comes_back_elsewhere(made: Config, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    fill(made, "3")
    there = config(tmp_path / "there")
    restore(there, file)
    assert bodies(there) == ["1", "2"]
    names = sorted(path.name for path in made.keys.iterdir())
    assert [(there.keys / name).read_bytes() for name in names] == [(made.keys / name).read_bytes() for name in names]
    assert stat.S_IMODE((there.keys / "ca.key").stat().st_mode) == 0o600


def test_what_is_there_is_replaced_only_when_that_is_said(made: Config, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    fill(made, "3")
    with pytest.raises(BackupError, match="--force"):
        restore(made, file)
    assert bodies(made) == ["1", "2", "3"]
    restore(made, file, force=True)
    assert bodies(made) == ["1", "2"]


def test_not_while_a_controller_is_at_work(made: Config, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    with (made.keys.parent / "serai.db.leader").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="stop it first"):
            restore(made, file, force=True)
    assert bodies(made) == ["1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files to others")
@pytest.mark.parametrize("there_before", [True, False])
def test_what_root_restores_belongs_to_whom_the_controller_runs_as(
    made: Config, tmp_path: Path, *, there_before: bool
) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    there = made if there_before else config(tmp_path / "there")
    home = there.keys.parent
    home.mkdir(exist_ok=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    restore(there, file, force=True)
    assert {(path.name, path.stat().st_uid) for path in home.rglob("*")} >= {("serai.db", 65534), ("ca.key", 65534)}
    assert {path.stat().st_uid for path in (home, *home.rglob("*"))} == {65534}


def test_what_only_the_log_of_the_old_database_knew_is_not_lost_on_the_way(
    made: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    database = made.keys.parent / "serai.db"
    with contextlib.closing(sqlite3.connect(database)) as holding:  # keeps what follows in the log
        holding.execute("SELECT count(*) FROM revisions").fetchone()
        fill(made, "3")
        whole = {path: path.read_bytes() for path in made.keys.parent.glob("serai.db*")}
    for path, content in whole.items():  # as a controller leaves it that is killed
        path.write_bytes(content)
    assert database.with_name("serai.db-wal").stat().st_size > 0

    def dies(*_: object) -> None:
        raise OSError("the machine is gone")

    monkeypatch.setattr("serai.controller.backup.hand_over", dies)
    monkeypatch.setattr("serai.controller.backup._nobody_leads", lambda _: contextlib.nullcontext())
    with pytest.raises(BackupError, match="the machine is gone"):
        restore(made, file, force=True)
    assert not database.with_name("serai.db-wal").exists()
    assert bodies(made) == ["1", "2", "3"]


def test_postgresql_not_while_a_controller_leads(tmp_path: Path) -> None:
    with cluster() as server:
        here = config(tmp_path / "here", server.url_of(server.create_database()))
        here.keys.parent.mkdir()
        fill(here, "1")
        file = tmp_path / "backup.tar"
        backup(here, file, datetime.now(UTC))
        fill(here, "2")
        with contextlib.closing(psycopg.connect(here.database, autocommit=True)) as leading:
            leading.execute("SELECT pg_advisory_lock(%s)", (advisory_key("all"),))
            with pytest.raises(BackupError, match="stop all of them first"):
                restore(here, file, force=True)
        assert bodies(here) == ["1", "2"]
        restore(here, file, force=True)
        assert bodies(here) == ["1"]


def test_no_password_is_among_the_arguments_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\necho "$PGPASSWORD" >{tmp_path}/password\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "keys").mkdir()
    with pytest.raises(BackupError, match="pg_dump"):
        backup(config(tmp_path, "postgresql://serai:hunter%402@db.example/serai"), tmp_path / "b", datetime.now(UTC))
    assert (tmp_path / "password").read_text().strip() == "hunter@2"
    assert "hunter" not in (tmp_path / "arguments").read_text()
    assert "postgresql://serai@db.example/serai" in (tmp_path / "arguments").read_text()


def damaged(file: Path, how: str) -> None:
    raw = file.read_bytes()
    if how == "cut":
        file.write_bytes(raw[: len(raw) // 2])
    elif how == "changed":
        at = raw.index(b"SQLite format 3") + 5000
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    elif how == "more":
        with tarfile.open(file, "a") as archive:
            archive.add(__file__, "keys/../../evil")
    else:
        file.write_bytes(b"nothing of the kind")


@pytest.mark.parametrize("how", ["cut", "changed", "more", "nothing"])
def test_a_damaged_file_changes_nothing(made: Config, tmp_path: Path, how: str) -> None:
    file = tmp_path / "backup.tar"
    backup(made, file, datetime.now(UTC))
    fill(made, "3")
    damaged(file, how)
    with pytest.raises(BackupError, match=r"damaged|no backup"):
        restore(made, file, force=True)
    assert bodies(made) == ["1", "2", "3"]
    assert sorted(path.name for path in made.keys.parent.iterdir() if path.name.startswith(".")) == []


def test_postgresql_too(tmp_path: Path) -> None:
    with cluster() as server:
        here = config(tmp_path / "here", server.url_of(server.create_database()))
        here.keys.parent.mkdir()
        fill(here, "1", "2")
        file = tmp_path / "backup.tar"
        backup(here, file, datetime.now(UTC))
        fill(here, "3")
        there = config(tmp_path / "there", server.url_of(server.create_database()))
        restore(there, file)
        assert bodies(there) == ["1", "2"]
        with pytest.raises(BackupError, match="is a backup of postgresql"):
            restore(config(tmp_path / "other"), file)
