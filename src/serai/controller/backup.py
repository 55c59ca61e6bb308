"""Takes all that a controller keeps away in one file, and brings it back: the database, the keys, the settings.

The file is a tar archive whose first member says what the others are, by their SHA-256. The keys of the site are in it: it is written for
nobody else to read, and belongs where those keys may be.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from sqlalchemy import URL

from serai.controller.config import Config
from serai.store.engine import address, file_of
from serai.store.leadership import advisory_key
from serai.wire.private import hand_over, sync_directory

VERSION: Final = 1
_MANIFEST: Final = "manifest.json"
_DATABASE: Final = "database"
_KEYS: Final = "keys/"
_CONFIG: Final = "controller.toml"
_LARGEST_MANIFEST: Final = 1 << 20


class BackupError(RuntimeError):
    """Nothing was taken away, or brought back; the message says why."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file."""

    version: int
    made: datetime
    engine: str
    """``sqlite`` or ``postgresql``."""
    members: Mapping[str, str]
    """SHA-256 in hexadecimal, by name."""


def backup(config: Config, file: Path, now: datetime, *, config_file: Path | None = None) -> Manifest:
    """Write everything to ``file``; the controller may be at work meanwhile.

    Raises:
        BackupError: it cannot be done; ``file`` is as it was.
    """
    url = address(config.database)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".serai-backup-") as scratch:
            dump = Path(scratch) / _DATABASE
            source = file_of(url)
            if source is not None:
                _copy_sqlite(source, dump)
            else:
                _run(["pg_dump", "--format=custom", "--no-owner", f"--file={dump}"], url)
            members = {_DATABASE: dump}
            members |= {f"{_KEYS}{key.name}": key for key in sorted(config.keys.iterdir()) if key.is_file()}
            if config_file is not None and config_file.exists():
                members[_CONFIG] = config_file
            manifest = Manifest(
                version=VERSION, made=now, engine=url.drivername,
                members={name: _digest(path) for name, path in members.items()},
            )  # fmt: skip
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
                with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    _add(archive, _MANIFEST, io.BytesIO(msgspec.json.encode(manifest)), now)
                    for name, path in members.items():
                        with path.open("rb") as content:
                            _add(archive, name, content, now)
                raw.flush()
                os.fsync(raw.fileno())
        beside.replace(file)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"cannot back up to {file}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return manifest


def restore(config: Config, file: Path, *, force: bool = False) -> Manifest:
    """Bring everything back that ``backup`` took away, where ``config`` says that it belongs. The settings themselves stay as they are.

    Raises:
        BackupError: the file is damaged or of another engine, a controller runs, or there is something already and ``force`` is not said;
            nothing was changed.
    """
    url = address(config.database)
    target = file_of(url)
    parent = target.parent if target is not None else config.keys.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".serai-restore-") as scratch:
            staged = Path(scratch)
            manifest = _unpack(file, staged)
            if manifest.engine != url.drivername:
                raise BackupError(f"{file} is a backup of {manifest.engine}, and the database here is {url.drivername}")
            there = [path for path in (target, config.keys) if path is not None and path.exists()]
            if there and not force:
                raise BackupError(f"{there[0]} is there already: say --force to replace it")
            with _nobody_leads(url):
                if target is not None:
                    _replace_database(staged / _DATABASE, target)
                else:
                    _run(
                        [
                            "pg_restore",
                            "--clean",
                            "--if-exists",
                            "--no-owner",
                            "--single-transaction",
                            str(staged / _DATABASE),
                        ],
                        url,
                    )
                _replace_directory(staged / "keys", config.keys)
    except (OSError, sqlite3.Error, psycopg.Error) as error:
        raise BackupError(f"cannot restore from {file}: {error}") from error
    return manifest


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.exists():
        raise BackupError(f"there is no database at {source}: nothing to back up")
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


def _unpack(file: Path, staged: Path) -> Manifest:
    """Unpack all of it beside, and believe nothing before it has been looked at."""
    try:
        with tarfile.open(file, "r:") as archive:
            first = archive.next()
            content = (
                archive.extractfile(first)
                if first and first.name == _MANIFEST and first.size <= _LARGEST_MANIFEST
                else None
            )
            if content is None:
                raise BackupError(f"{file} is no backup of Serai")
            manifest = msgspec.json.decode(content.read(), type=Manifest)
            if manifest.version != VERSION:
                raise BackupError(
                    f"{file} is a backup of version {manifest.version}, and version {VERSION} is understood"
                )
            found = set()
            while (member := archive.next()) is not None:
                parts = Path(member.name).parts
                content = archive.extractfile(member) if member.isreg() and member.name in manifest.members else None
                if content is None or ".." in parts or parts[0] == "/" or len(parts) > 2:  # noqa: PLR2004
                    raise BackupError(f"{file} is damaged: {member.name} does not belong in it")
                target = staged / member.name
                target.parent.mkdir(exist_ok=True, mode=0o700)
                with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                    shutil.copyfileobj(content, out)
                    out.flush()
                    os.fsync(out.fileno())
                if _digest(target) != manifest.members[member.name]:
                    raise BackupError(f"{file} is damaged: {member.name} is not what was taken away")
                found.add(member.name)
    except (tarfile.TarError, EOFError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupError(f"{file} is damaged, or no backup of Serai: {error}") from error
    if missing := sorted(manifest.members.keys() - found):
        raise BackupError(f"{file} is damaged: {missing[0]} is missing")
    return manifest


@contextlib.contextmanager
def _nobody_leads(url: URL) -> Iterator[None]:
    """Keep controllers from leading meanwhile: where one does already, nothing may change below it."""
    database = file_of(url)
    if database is None:
        with contextlib.closing(psycopg.connect(_plain(url), autocommit=True)) as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (advisory_key("all"),)).fetchone()
            if row != (True,):
                raise BackupError("a controller is at work on this database: stop all of them first")
            yield
        return
    descriptor = os.open(f"{database}.leader", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        hand_over(descriptor, database.parent)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BackupError(f"a controller is at work on {database}: stop it first") from None
        yield
    finally:
        os.close(descriptor)


def _replace_database(source: Path, target: Path) -> None:
    if (
        target.exists()
    ):  # what it has acknowledged moves into its file, which is whole from then on, whatever happens next
        with contextlib.closing(sqlite3.connect(target)) as old, contextlib.suppress(sqlite3.DatabaseError):
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):  # SQLite would play the old log into the new database
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    hand_over(source, target if target.exists() else target.parent)
    source.replace(target)
    sync_directory(target.parent)


def _replace_directory(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    fresh.chmod(0o700)
    for name in ("ca.pem", "server.pem"):
        if (fresh / name).exists():
            (fresh / name).chmod(0o644)
    for each in (fresh, *fresh.iterdir()):
        hand_over(each, target if target.exists() else target.parent)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    fresh.replace(target)
    sync_directory(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _plain(url: URL) -> str:
    """Write an address as PostgreSQL's own programs read it."""
    return url.render_as_string(hide_password=False)


def _run(command: list[str], url: URL) -> None:
    """Run one of PostgreSQL's programs on a database; everybody here may read its arguments, and so no password is among them."""
    told = URL.create(
        url.drivername, url.username, host=url.host, port=url.port, database=url.database, query=url.query
    )
    password = {"PGPASSWORD": str(url.password)} if url.password is not None else {}
    try:
        done = subprocess.run(
            [*command, f"--dbname={_plain(told)}"],
            capture_output=True, text=True, check=False, env={**os.environ, **password},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BackupError(f"{command[0]} is not there: install PostgreSQL's client programs") from error
    if done.returncode != 0:
        raise BackupError(f"{command[0]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")


def _add(archive: tarfile.TarFile, name: str, content: io.BufferedIOBase, now: datetime) -> None:
    content.seek(0, os.SEEK_END)
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = content.tell(), 0o600, now.timestamp()
    content.seek(0)
    archive.addfile(member, content)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
