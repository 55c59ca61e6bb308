"""Talks with a server of OVN's databases (RFC 7047, over a Unix socket)."""

from __future__ import annotations

import collections
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

Operation = Mapping[str, object]

_CHUNK: Final = 1 << 20


class Database:
    """One database of a server."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        """Speak through ``connection`` about the database called ``name``."""
        self._connection = connection
        self._name = name
        self._received = b""
        self._asked = 0
        self._updates: collections.deque[Mapping[str, Any]] = collections.deque()

    @classmethod
    def connect(cls, path: Path, name: str) -> Database:
        """Raises OSError while there is no server yet."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return cls(connection, name)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def transact(self, operations: Sequence[Operation]) -> list[Any]:
        """Do all ``operations`` or none, and return what each says; raises RuntimeError if the server refuses."""
        said: list[Any] = self._call("transact", [self._name, *operations])
        refused = [one for one in said if one and one.get("error")]
        if refused:
            raise RuntimeError(f"{self._name} refuses: {refused[0]}")
        return said

    def select(self, table: str, *columns: str) -> list[dict[str, Any]]:
        """All rows of a table."""
        rows: list[dict[str, Any]]
        rows = self.transact([{"op": "select", "table": table, "where": [], "columns": [*columns]}])[0]["rows"]
        return rows

    def tell(self) -> None:
        """Return once the server has told everybody else what was done here: it may do so after it has answered us."""
        for _ in range(3):  # rounds of the server, in each of which it serves everybody once
            self._call("echo", [])

    def watch(self, table: str, column: str) -> None:
        """Let ``update`` tell of a column's changes from now on."""
        self._call("monitor", [self._name, None, {table: {"columns": [column]}}])

    def update(self, seconds: float) -> Mapping[str, Any]:
        """The next change of what is watched, by table; raises TimeoutError if there is none for so long."""
        while not self._updates:
            self._dispatch(self._message(seconds))
        return self._updates.popleft()

    def _call(self, method: str, parameters: list[object]) -> Any:  # noqa: ANN401 -- as the method says
        self._asked += 1
        self._send({"method": method, "params": parameters, "id": self._asked})
        while (message := self._message(None)).get("id") != self._asked or "method" in message:
            self._dispatch(message)
        if message["error"]:
            raise RuntimeError(f"{self._name}: {method} failed: {message['error']}")
        return message["result"]

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        if message.get("method") == "update":
            self._updates.append(message["params"][1])
        elif message.get("method") == "echo":
            self._send({"result": message["params"], "error": None, "id": message["id"]})

    def _send(self, message: Mapping[str, object]) -> None:
        self._connection.settimeout(None)
        self._connection.sendall(json.dumps(message, separators=(",", ":")).encode())

    def _message(self, seconds: float | None) -> dict[str, Any]:
        """The next message; nothing stands between them but their own braces."""
        self._connection.settimeout(seconds)
        while True:
            if self._received.endswith(b"}"):  # a long one is only looked at when it may be complete
                text = self._received.decode()
                try:
                    message, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    pass
                else:
                    self._received = text[end:].lstrip().encode()
                    return dict(message)
            got = self._connection.recv(_CHUNK)
            if not got:
                raise EOFError(f"the server of {self._name} has ended")
            self._received += got
