"""Looks at a controller: its keys, its database, and whether it answers."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from serai.controller.config import Config
from serai.model.check import Check
from serai.store.engine import address, file_of
from serai.store.errors import StoreError, UrlError
from serai.store.inspect import settings_of
from serai.wire.client import Client, ClientError
from serai.wire.keypair import PkiError
from serai.wire.pki import read_certificate
from serai.wire.profile import Profile

_SECRET: Final = ("ca.key", "audit.key", "server.key")
_SOON: Final = timedelta(days=30)


async def examine(config: Config) -> AsyncIterator[Check]:
    """Look at everything that a controller with these settings needs."""
    for check in keys(config.keys, datetime.now(UTC)):
        yield check
    yield await database(config.database)
    yield reachable(config)


def keys(directory: Path, now: datetime) -> list[Check]:
    """Say whether the keys are there, for nobody else to read, and good for a while."""
    if not directory.is_dir():
        return [
            Check(
                name="keys", ok=None, finding=f"{directory} is not there yet",
                remedy="the first start of a controller makes it; for another controller of a site, copy it",
            )
        ]  # fmt: skip
    missing = [name for name in (*_SECRET, "ca.pem", "server.pem") if not (directory / name).exists()]
    if missing:
        return [
            Check(
                name="keys",
                ok=False,
                finding=f"{', '.join(missing)} missing in {directory}",
                remedy="bring them back from a backup",
            )
        ]
    loose = [name for name in _SECRET if stat.S_IMODE((directory / name).stat().st_mode) & 0o077]
    found = [
        Check(
            name="keys", ok=False, finding=f"others may read {', '.join(loose)}", remedy=f"chmod 600 {directory}/*.key"
        )
        if loose
        else Check(name="keys", ok=True, finding=f"are in {directory}, for nobody else to read")
    ]
    return [*found, *(_certificate(directory / name, now) for name in ("ca.pem", "server.pem"))]


def _certificate(file: Path, now: datetime) -> Check:
    name = f"certificate {file.name}"
    try:
        until = read_certificate(file.read_text()).not_valid_after_utc
    except (OSError, PkiError, UnicodeDecodeError) as error:
        return Check(name=name, ok=False, finding=str(error), remedy="bring it back from a backup")
    remedy = (
        "restart the controller: it makes another"
        if file.name == "server.pem"
        else "plan to let all hosts join a new authority"
    )
    if until - now < _SOON:
        return Check(name=name, ok=False, finding=f"ends on {until:%F}", remedy=remedy)
    return Check(name=name, ok=True, finding=f"is good until {until:%F}")


async def database(url: str) -> Check:
    """Say whether the database answers, is one of ours, and keeps what it has acknowledged."""
    try:
        settings = await settings_of(url)
    except (StoreError, UrlError) as error:
        return Check(name="database", ok=False, finding=str(error), remedy="see the database's own log")
    file = file_of(address(url))
    told = f"schema {settings.schema or 'none yet'}, " + ", ".join(f"{n} {v}" for n, v in settings.durability.items())
    if settings.unsafe:
        return Check(
            name="database",
            ok=False,
            finding=f"{told}: what it acknowledges may be lost",
            remedy=f"set {', '.join(settings.unsafe)}",
        )
    return Check(name="database", ok=True, finding=f"{file or 'PostgreSQL'}: {told}")


def reachable(config: Config) -> Check:
    """Say whether a controller answers where people are told that it does, with the right certificate."""
    try:
        with Client(Profile(url=config.url, ca=config.keys / "ca.pem")) as client:
            health = client.health()
    except ClientError as error:
        return Check(name="controller", ok=False, finding=str(error), remedy="look at its log")
    wrong = {name: told for name, told in health.parts.items() if told != "ok"}
    if wrong:
        return Check(
            name="controller",
            ok=False,
            finding="; ".join(f"{n}: {t}" for n, t in wrong.items()),
            remedy="look at its log",
        )
    return Check(name="controller", ok=True, finding=f"answers at {config.url}")
