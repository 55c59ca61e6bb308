"""What the doctor says of a controller that is well, and of one that is not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.postgres import cluster
from credentials import Site
from serai.controller.config import Config
from serai.controller.doctor import database, keys, reachable
from serai.store.store import Store

NOW = datetime.now(UTC)


def test_keys_that_are_well_loose_gone_and_nearly_over(tmp_path: Path) -> None:
    assert [check.ok for check in keys(tmp_path / "keys", NOW)] == [None]
    Site.make(tmp_path)
    assert [check.ok for check in keys(tmp_path / "keys", NOW)] == [True, True, True]
    (tmp_path / "keys" / "ca.key").chmod(0o644)
    loose, *_ = keys(tmp_path / "keys", NOW)
    assert (loose.ok, "ca.key" in loose.finding, "chmod" in loose.remedy) == (False, True, True)
    late = keys(tmp_path / "keys", NOW + timedelta(days=350))
    assert [check.ok for check in late] == [False, True, False]
    (tmp_path / "keys" / "ca.key").unlink()
    assert [(check.ok, "ca.key missing" in check.finding) for check in keys(tmp_path / "keys", NOW)] == [(False, True)]


def opened(url: str, directory: Path) -> None:
    async def opening() -> None:
        await (await Store.open(url, signer=Site.make(directory).keys.audit_signer())).close()

    asyncio.run(opening())


def test_a_database_that_is_there_and_one_that_is_not(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/serai.db"
    absent = asyncio.run(database(url))
    assert (absent.ok, "not there yet" in absent.finding) == (False, True)
    assert not (tmp_path / "serai.db").exists(), "looking makes none"
    opened(url, tmp_path)
    assert asyncio.run(database(url)).ok
    assert asyncio.run(database("mysql://x")).ok is False


def test_a_postgresql_that_may_forget_is_told(tmp_path: Path) -> None:
    with cluster() as server:
        opened(server.url, tmp_path)
        check = asyncio.run(database(server.url))
    assert check.ok is False, "the tests' own cluster does not wait for its disk"
    assert "fsync = on" in check.remedy


def test_a_controller_that_does_not_answer(tmp_path: Path) -> None:
    Site.make(tmp_path)
    config = Config(keys=tmp_path / "keys", names=["localhost"], port=1)
    check = reachable(config)
    assert (check.ok, "cannot be reached" in check.finding) == (False, True)
