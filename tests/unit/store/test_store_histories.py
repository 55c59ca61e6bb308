"""Random histories: both engines, and a plain dict, agree on what is, what was and what changed."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.postgres import Cluster
from databases import NOW, change, opened
from serai.model.key import Key
from serai.store.store import Store

PATHS = st.sampled_from(["/:a", "/acme:a", "/acme:b", "/acme/shop:a", "/Acme:a"])
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
WRITES = st.dictionaries(PATHS, st.none() | TEXTS, max_size=4)


@asynccontextmanager
async def both(server: Cluster, new_file: Path, new_database: str) -> AsyncIterator[list[Store]]:
    name = server.create_database(template=new_database)
    with TemporaryDirectory() as directory:
        file = shutil.copy(new_file, directory)
        async with opened(f"sqlite:///{file}") as lite, opened(server.url_of(name)) as big:
            yield [lite, big]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(WRITES, max_size=8))
def test_engines_agree(
    server: Cluster, new_file: Path, new_database: str, history: list[dict[str, str | None]]
) -> None:
    async def body() -> None:
        async with both(server, new_file, new_database) as stores:
            model: dict[Key, str] = {}
            pasts = [dict(model)]
            for head, writes in enumerate(history):
                for store in stores:
                    assert await store.revisions.commit(change(head, writes), NOW) == head + 1
                for path, text in writes.items():
                    model.pop(Key("Policy", path), None)
                    if text is not None:
                        model[Key("Policy", path)] = text
                pasts.append(dict(model))
            told = []
            for store in stores:
                assert {each.key: each.body for each in await store.revisions.resources()} == model
                for number, past in enumerate(pasts):
                    assert await store.revisions.at(number) == past
                revisions = await store.revisions.since(0)
                for number, revision in enumerate(revisions):
                    assert revision.writes == {Key("Policy", path): body for path, body in history[number].items()}
                    assert revision.before == {key: pasts[number].get(key) for key in revision.writes}
                told.append(
                    (
                        [dataclasses.asdict(each) for each in revisions],
                        sorted((each.key, each.body, each.revision) for each in await store.revisions.resources()),
                        await store.audit.checkpoint(),
                    )
                )
            assert told[0] == told[1]

    asyncio.run(body())
