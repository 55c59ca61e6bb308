"""Every test that asks for ``url`` runs on both engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.postgres import Cluster, cluster
from databases import play
from serai.store.store import Store


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, and nothing in them: copying is faster than making."""
    file = tmp_path_factory.mktemp("new") / "serai.db"
    play(f"sqlite:///{file}", _nothing)
    return file


@pytest.fixture(scope="session")
def new_database(server: Cluster) -> str:
    name = server.create_database()
    play(server.url_of(name), _nothing)
    return name


@pytest.fixture
def sqlite_url(tmp_path: Path, new_file: Path) -> str:
    shutil.copy(new_file, tmp_path / "serai.db")
    return f"sqlite:///{tmp_path}/serai.db"


@pytest.fixture
def postgresql_url(server: Cluster, new_database: str) -> str:
    return server.url_of(server.create_database(template=new_database))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


async def _nothing(store: Store) -> None:
    del store
