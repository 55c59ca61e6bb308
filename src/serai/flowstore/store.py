"""Asks the engine and feeds it, beside the event loop: embedded or a cluster, it is the same from here on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from pyarrow import ipc
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from serai.flowstore.embedded import Address, EngineError
from serai.flowstore.schema import DATABASE, VERSION, Retention, Topology, statements

READERS: Final = 4
_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 120
_SAID: Final = "Received ClickHouse exception"
"""What the client begins with when the engine has answered, and the answer is no."""
_PORT, _SECURE_PORT = 8123, 8443

T = TypeVar("T")


class UrlError(ValueError):
    """That is no address of a flow store."""


class QuestionError(RuntimeError):
    """The engine does not answer this question: it takes too long, or too much memory."""


def address_of(url: str) -> tuple[Address, Topology]:
    """Read ``clickhouse://user:password@host:port/?cluster=NAME&secure=1``.

    Raises:
        UrlError: that is none.
    """
    parts = urlsplit(url)
    said = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = sorted(said.keys() - {"cluster", "secure"})
    if parts.scheme != "clickhouse" or not parts.hostname or unknown or parts.path.strip("/"):
        raise UrlError(
            f"{_hidden(url)} is no address of a flow store: write clickhouse://USER:PASSWORD@HOST:PORT/?cluster=NAME&secure=1, and leave out what is not needed"
        )
    secure = said.get("secure", "") in {"1", "yes", "true"}
    try:
        port = parts.port or (_SECURE_PORT if secure else _PORT)
    except ValueError as error:
        raise UrlError(f"{_hidden(url)} has no good port: {error}") from error
    user, password = unquote(parts.username or "default"), unquote(parts.password or "")
    return Address(
        host=parts.hostname, port=port, reader=password, writer=password, reader_name=user, writer_name=user, secure=secure
    ), Topology(cluster=said.get("cluster", ""))  # fmt: skip


def _hidden(url: str) -> str:
    """Write an address without its password."""
    before, at, after = url.rpartition("@")
    return f"{before.split('://')[0]}://...@{after}" if at else url


class FlowStore:
    """One engine, by its address. Close it when it is not used any more."""

    def __init__(
        self, address: Address, *, topology: Topology | None = None, retention: Retention | None = None
    ) -> None:
        """Connect to nobody yet."""
        self._address = address
        self.topology = topology or Topology()
        self._retention = retention or Retention()
        self._clients: dict[str, Client] = {}
        self._pools: Mapping[str, ThreadPoolExecutor] = {
            "reader": ThreadPoolExecutor(READERS, thread_name_prefix="flow-reader"),
            "writer": ThreadPoolExecutor(1, thread_name_prefix="flow-writer"),
        }

    async def prepare(self) -> None:
        """Connect, and make the tables that are not there.

        Raises:
            EngineError: it does not answer, or its tables are of a newer version.
        """
        await self._do("writer", self._prepare)
        await self._do("reader", lambda client: client.command("SELECT 1"))

    def _prepare(self, client: Client) -> None:
        for statement in statements(self.topology, self._retention):
            client.command(statement)
        found = client.command(f"SELECT max(version) FROM {DATABASE}.versions")
        if int(str(found)) > VERSION:
            raise EngineError(
                f"the tables of the flow store are of version {found}, and this controller knows {VERSION}: run the newer one"
            )
        if int(str(found)) < VERSION:
            client.command(f"INSERT INTO {DATABASE}.versions SELECT {VERSION}, now()")

    async def ask(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """Answer a question; what varies in it stands in ``parameters``, as ``{name:Type}``.

        Raises:
            QuestionError: it takes too long, or too much.
            EngineError: the engine does not answer.
        """

        def ask(client: Client) -> pa.Table:
            raw = client.raw_query(sql, parameters=dict(parameters or {}), fmt="ArrowStream")
            with ipc.open_stream(raw) as stream:
                return stream.read_all()

        return await self._do("reader", ask)

    async def insert(self, table: str, rows: pa.Table, *, token: str = "") -> None:
        """Insert rows. One that failed may be tried again with the same token and the same rows: nothing is there twice.

        Raises:
            EngineError: the engine does not take them.
        """
        settings = (
            {"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": "1"}
            if token
            else {}
        )
        sink = pa.BufferOutputStream()
        with ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        body = sink.getvalue().to_pybytes()

        def insert(client: Client) -> None:
            client.raw_insert(f"{DATABASE}.{table}", rows.column_names, body, settings=settings, fmt="ArrowStream")

        await self._do("writer", insert)

    async def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> str:
        """Change something; return what the engine says.

        Raises:
            EngineError: it does not.
        """
        return str(await self._do("writer", lambda client: client.command(sql, parameters=dict(parameters or {}))))

    async def _do(self, who: str, job: Callable[[Client], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pools[who], self._turn, who, job)

    def _turn(self, who: str, job: Callable[[Client], T]) -> T:
        try:
            return job(self._client(who))
        except DatabaseError as error:
            if not str(error).startswith(_SAID):  # nobody said anything: the connection failed
                raise EngineError("the flow store does not answer") from error
            text = str(error).partition("DB::Exception: ")[2] or str(error)
            kind = QuestionError if who == "reader" else EngineError
            raise kind(f"the flow store says no: {text.partition(' (for url')[0][:400]}") from error
        except (ClickHouseError, HTTPError, OSError, pa.ArrowInvalid) as error:
            raise EngineError(f"the flow store does not answer: {type(error).__name__}") from error

    def _client(self, who: str) -> Client:
        if who not in self._clients:
            address = self._address
            self._clients[who] = clickhouse_connect.get_client(
                host=address.host, port=address.port, secure=address.secure, compress=False, autogenerate_session_id=False, database=DATABASE if who == "reader" else "default",
                username=address.reader_name if who == "reader" else address.writer_name, password=address.reader if who == "reader" else address.writer,
                connect_timeout=_CONNECT_SECONDS, send_receive_timeout=_ANSWER_SECONDS, query_limit=0, query_retries=0, pool_mgr=PoolManager(num_pools=2, maxsize=READERS + 1),
            )  # fmt: skip
        return self._clients[who]

    def close(self) -> None:
        """Let go of connections and threads; what is under way is waited for."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients.values():
            client.close()
