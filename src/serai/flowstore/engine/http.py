"""As much of ClickHouse's HTTP interface as ``clickhouse-connect`` uses: queries with parameters, inserts, errors with their code."""

from __future__ import annotations

import base64
import hmac
import io
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import multipart

from serai.flowstore.engine.sessions import Sessions

READER, WRITER = "reader", "writer"
"""The two users."""

_INSERT: Final = re.compile(r"\s*(INSERT\s+INTO\s[^;]*?)\bFORMAT\s+(\w+)\s*\Z", re.IGNORECASE)
"""Rows come behind it. Whatever else inserts is a statement like any other."""
_FORMAT: Final = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
_CODE: Final = re.compile(r"Code:\s*(\d+)")
_SETTINGS: Final = {"insert_deduplication_token", "deduplicate_blocks_in_dependent_materialized_views"}
"""What a writer may say in the URL; everything else that clients send along is left out."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_MOST_PARTS: Final = 1000
_OUTFILE: Final = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)
_LONGEST_LINE: Final = 65536
_BODY_LIMIT: Final = 512 * 1024 * 1024
_UNAUTHORIZED, _TOO_LARGE = 401, 413
_AUTHENTICATION_FAILED: Final = "516"


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(why)
        self.status, self.code = status, code


class Adapter:
    """The ASGI application."""

    def __init__(self, sessions: Sessions, secrets: Mapping[str, str]) -> None:
        """Answer whoever knows a secret; ``secrets`` has them by user."""
        self._sessions = sessions
        self._secrets = secrets

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status, headers, body = 200, *await self._answer(scope, receive)
        except _RefusedError as refusal:
            status, headers, body = refusal.status, {"X-ClickHouse-Exception-Code": refusal.code}, str(refusal).encode()
        except RuntimeError as error:
            code = found[1] if (found := _CODE.search(str(error))) else "1"
            status, headers, body = 500, {"X-ClickHouse-Exception-Code": code}, str(error).encode()
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send(
            {"type": "http.response.start", "status": status, "headers": [*raw, (b"content-length", b"%d" % len(body))]}
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Mapping[str, Any], receive: Any) -> tuple[dict[str, str], bytes]:  # noqa: ANN401
        if scope["path"] == "/ping":
            return {}, b"Ok.\n"
        user = self._user(scope)
        body = await _body(receive)
        said = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        if form := _form(scope, body):  # what is too long for a URL comes so
            said, body = said | form, b""
        sql = said.get("query", "")
        if user == WRITER and (found := _INSERT.match(sql or _first_line(body))):
            return await self._insert(found, body if sql else body[found.end() :].removeprefix(b"\n"), said)
        sql = (sql or body.decode()).strip().removesuffix(";")
        if ";" in sql:  # the engine would do all of them, and mix up their answers
            raise _RefusedError(400, "62", "one statement at a time: values go into parameters")
        if _OUTFILE.search(sql):  # the library would write it, for readers too
            raise _RefusedError(400, "62", "answers go to whoever asks, and into no file")
        shape = said.get("default_format", "TabSeparated")
        if found := _FORMAT.search(sql):
            sql, shape = sql[: found.start()], found[1]
        parameters = {name[6:]: value for name, value in said.items() if name.startswith("param_")}
        ask = self._sessions.write if user == WRITER else self._sessions.read
        return _about(said, shape), await ask(sql, shape, parameters)

    async def _insert(
        self, insert: re.Match[str], body: bytes, said: Mapping[str, str]
    ) -> tuple[dict[str, str], bytes]:
        settings = {name: said[name] for name in sorted(_SETTINGS & said.keys()) if _TOKEN.fullmatch(said[name])}
        told = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
        done = await self._sessions.insert(insert[1] + (f" SETTINGS {told}" if told else ""), insert[2], body)
        summary = {"written_rows": str(done.rows), "written_bytes": str(done.bytes), "read_rows": "0"}
        return {**_about(said, insert[2]), "X-ClickHouse-Summary": json.dumps(summary)}, b""

    def _user(self, scope: Mapping[str, Any]) -> str:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        try:
            user, _, secret = base64.b64decode(given).decode().partition(":")
        except ValueError:
            user = secret = ""
        known = self._secrets.get(user, "")
        if scheme.lower() != b"basic" or not known or not hmac.compare_digest(known.encode(), secret.encode()):
            raise _RefusedError(
                _UNAUTHORIZED, _AUTHENTICATION_FAILED, "this engine belongs to a controller, and answers nobody else"
            )
        return user


def _form(scope: Mapping[str, Any], body: bytes) -> dict[str, str]:
    told = {name.lower(): value for name, value in scope["headers"]}.get(b"content-type", b"").decode(errors="replace")
    kind, options = multipart.parse_options_header(told)
    if kind != "multipart/form-data":
        return {}
    try:
        parts = multipart.MultipartParser(
            io.BytesIO(body),
            options.get("boundary", ""),
            memory_limit=_BODY_LIMIT,
            disk_limit=0,
            part_limit=_MOST_PARTS,
        )
        return {part.name: part.value for part in parts}
    except multipart.MultipartError as error:
        raise _RefusedError(400, "62", f"this form cannot be read: {error}") from error


def _first_line(body: bytes) -> str:
    return body[:_LONGEST_LINE].partition(b"\n")[0].decode(errors="replace")


def _about(said: Mapping[str, str], shape: str) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": said.get("query_id") or str(uuid.uuid4()),
        "X-ClickHouse-Format": shape,
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Server-Display-Name": "serai",
        "X-ClickHouse-Summary": "{}",
    }


async def _body(receive: Any) -> bytes:  # noqa: ANN401 (ASGI)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "210", "the client is gone")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > _BODY_LIMIT:
            raise _RefusedError(_TOO_LARGE, "241", f"a request has at most {_BODY_LIMIT} bytes")
        if not message.get("more_body"):
            return b"".join(pieces)
