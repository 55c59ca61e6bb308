from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.ovsdb import Database


class Server:
    """The other end: says what it is told to say, and knows what it was sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def say(self, *messages: object) -> None:
        self._connection.sendall("".join(map(json.dumps, messages)).encode())

    def heard(self) -> list[object]:
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            text = self._connection.recv(1 << 16).decode()
            found = []
            while text:
                message, end = json.JSONDecoder().raw_decode(text)
                found.append(message)
                text = text[end:]
            return found
        return []


@pytest.fixture
def pair() -> Iterator[tuple[Database, Server]]:
    ours, theirs = socket.socketpair()
    with contextlib.closing(Database(ours, "Shop")) as database, theirs:
        yield database, Server(theirs)


def test_rows_come_back_however_the_answer_is_split(pair: tuple[Database, Server]) -> None:
    database, server = pair
    rows = [{"name": "}" * 300}] * 2000
    answer = json.dumps({"id": 1, "result": [{"rows": rows}], "error": None})
    writer = threading.Thread(target=server._connection.sendall, args=[answer.encode()])  # more than a socket takes
    writer.start()
    assert database.select("Thing", "name") == rows
    writer.join()
    (asked,) = server.heard()
    assert asked == {
        "method": "transact",
        "params": ["Shop", {"op": "select", "table": "Thing", "where": [], "columns": ["name"]}],
        "id": 1,
    }


def test_updates_that_come_before_an_answer_are_kept(pair: tuple[Database, Server]) -> None:
    database, server = pair
    changes = [{"Thing": {"x": {"new": {"count": number}}}} for number in range(3)]
    updates = [{"method": "update", "params": [None, change], "id": None} for change in changes]
    server.say(*updates[:2], {"id": 1, "result": [{"count": 1}], "error": None}, updates[2])
    assert database.transact([{"op": "update"}]) == [{"count": 1}]
    assert [database.update(1) for _ in changes] == changes
    with pytest.raises(TimeoutError):
        database.update(0.01)


def test_a_server_that_asks_whether_we_are_there_is_answered(pair: tuple[Database, Server]) -> None:
    database, server = pair
    server.say({"method": "echo", "params": ["hello"], "id": "echo"}, {"id": 1, "result": {}, "error": None})
    database.watch("Thing", "count")
    assert server.heard() == [
        {"method": "monitor", "params": ["Shop", None, {"Thing": {"columns": ["count"]}}], "id": 1},
        {"result": ["hello"], "error": None, "id": "echo"},
    ]


def test_what_is_refused_is_an_error(pair: tuple[Database, Server]) -> None:
    database, server = pair
    server.say({"id": 1, "result": [{}, {"error": "constraint violation"}], "error": None})
    with pytest.raises(RuntimeError, match="constraint violation"):
        database.transact([{"op": "insert"}, {"op": "insert"}])
    server.say({"id": 2, "result": None, "error": "unknown method"})
    with pytest.raises(RuntimeError, match="unknown method"):
        database.watch("Thing", "count")


def test_a_server_that_ends_is_noticed(pair: tuple[Database, Server]) -> None:
    database, server = pair
    server._connection.close()
    with pytest.raises((EOFError, OSError)):
        database.watch("Thing", "count")


def test_a_server_is_asked_until_it_has_told_everybody(pair: tuple[Database, Server]) -> None:
    database, server = pair
    server.say(*({"id": number, "result": [], "error": None} for number in (1, 2, 3)))
    database.tell()
    assert server.heard() == [{"method": "echo", "params": [], "id": number} for number in (1, 2, 3)]
