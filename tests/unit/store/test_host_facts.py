"""What hosts are made of, as it is kept; and a database of an older schema."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from databases import NOW, change, play
from serai.model.host_facts import Cpu, HostFacts, Nic
from serai.store.engine import WRITES, address, connect_blocking
from serai.store.records import ToldFacts
from serai.store.schema import METADATA
from serai.store.store import Store

FACTS = HostFacts(
    cpu=Cpu(arch="x86_64", vendor="\0odd\\", model="Broadwell", family=6, number=79, features=["aes", "avx"]),
    memory=64000, nics=[Nic(name="ens1", speed=25000), Nic(name="ens2")], kernel="6.8.0", features=["tcx"], agent="1",
)  # fmt: skip
LATER = NOW + timedelta(days=3)


def told(host: str, **otherwise: object) -> ToldFacts:
    return ToldFacts(host=host, told=NOW, facts=msgspec.structs.replace(FACTS, **otherwise))


def test_the_last_that_each_host_has_told_is_kept(url: str) -> None:
    async def write(store: Store) -> None:
        assert await store.hosts.facts() == []
        await store.hosts.put_facts([])
        await store.hosts.put_facts([told("b"), told("a", memory=1)])
        last = ToldFacts(host="a", told=LATER, facts=FACTS)
        await store.hosts.put_facts([last])
        assert await store.hosts.facts() == [last, told("b")]

    async def read(store: Store) -> None:
        assert [(each.host, each.told) for each in await store.hosts.facts()] == [("a", LATER), ("b", NOW)]

    play(url, write)
    play(url, read)


def test_what_another_version_has_written_is_left_out(url: str) -> None:
    async def write(store: Store) -> None:
        await store.hosts.put_facts([told("a"), told("b"), told("c")])

    async def read(store: Store) -> None:
        assert await store.hosts.facts() == [told("c")]

    play(url, write)
    work(
        url, "UPDATE host_facts SET facts = '{}' WHERE name = 'a'", "UPDATE host_facts SET facts = '{' WHERE name = 'b'"
    )
    play(url, read)


def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_has(url: str) -> None:
    async def write(store: Store) -> None:
        await store.revisions.commit(change(0, {"/acme:shop": "1"}), NOW)

    async def read(store: Store) -> None:
        assert await store.revisions.head() == 1
        await store.hosts.put_facts([told("a")])
        assert await store.hosts.facts() == [told("a")]

    play(url, write)
    work(
        url, "DROP TABLE relocations", "DROP TABLE host_facts", "DROP TABLE moves", "UPDATE alembic_version SET version_num = '0001'"
    )  # fmt: skip
    play(url, read)


def test_the_steps_of_the_schema_make_the_tables_that_are_used(url: str) -> None:
    engine = connect_blocking(address(url))
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    assert [
        each for each in differences if each[0] in {"add_table", "remove_table", "add_column", "remove_column"}
    ] == []


def work(url: str, *statements: str) -> None:
    engine = connect_blocking(address(url))
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()
