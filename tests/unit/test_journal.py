"""What is logged, in which form, and what never is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from serai import journal
from serai.journal import MASK, JournalError
from serai.wire.jointoken import JoinToken


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(environment: dict[str, str] | None = None, least: str = "info", **said: Any) -> dict[str, Any]:
    to = io.StringIO()
    journal.configure(environment or {}, stream=to, least=least)
    structlog.get_logger("x").info("something", **said)
    return dict(json.loads(to.getvalue()))


def test_a_line_is_an_object_with_the_time_in_utc() -> None:
    line = logged(host="hv1", number=3)
    assert (line["event"], line["level"], line["host"], line["number"]) == ("something", "info", "hv1", 3)
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_newlines_make_no_second_line() -> None:
    to = io.StringIO()
    journal.configure({}, stream=to)
    structlog.get_logger("x").info("one\ntwo", field="three\nfour")
    assert len(to.getvalue().splitlines()) == 1


def test_people_on_terminals_get_text() -> None:
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        to = Terminal()
        journal.configure(environment, stream=to)
        structlog.get_logger("x").warning("something", host="hv1", token="abcdefgh")  # noqa: S106 (none that opens anything)
        assert "something" in to.getvalue()
        assert "abcdefgh" not in to.getvalue()
        assert ("\x1b[" in to.getvalue()) == coloured


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "join_token",
        "apiKey",
        "secret",
        "client_secret",
        "PASSWORD",
        "passphrase",
        "key",
        "Authorization",
        "key_pem",
    ],
)
def test_secrets_are_masked_by_name(name: str) -> None:
    assert logged(**{name: "hunter2hunter2"})[name] == MASK
    assert logged(nested={"deep": [{name: "hunter2hunter2"}]})["nested"]["deep"][0][name] == MASK


@pytest.mark.parametrize("name", ["keyboard", "monkey", "tokenizer", "host", "revision"])
def test_other_names_are_not(name: str) -> None:
    assert logged(**{name: "plain"})[name] == "plain"


SECRETS = [
    "Authorization: Bearer abcdef0123456789",
    "serai_0123456789abcdef_" + "0a" * 32,
    str(JoinToken(id="one", secret=b"s" * 32, ca_hash="sha256:" + "0b" * 32)),
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "postgresql://serai:hunter2@db.example/serai",
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----",
]
TELLING = ["abcdef0123456789", "0a0a0a", "c3Nzc3", "c2lnbmF0dXJl", "hunter2", "MIGHAgEA"]


@pytest.mark.parametrize(("secret", "telling"), list(zip(SECRETS, TELLING, strict=True)))
def test_secrets_are_masked_by_their_looks(secret: str, telling: str) -> None:
    assert telling in secret
    line = json.dumps(logged(why=f"it said {secret}", error=RuntimeError(secret), many=[secret]))
    assert telling not in line
    assert line.count(MASK) >= 3


def test_they_are_masked_in_tracebacks_and_what_is_bound_too() -> None:
    to = io.StringIO()
    journal.configure({}, stream=to)
    structlog.contextvars.bind_contextvars(request="r1", cookie="hunter2")
    try:
        raise RuntimeError(SECRETS[0])  # noqa: TRY301 (there must be a traceback)
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
    line = json.loads(to.getvalue())
    assert (line["request"], line["cookie"]) == ("r1", MASK)
    assert "RuntimeError" in line["exception"]
    assert TELLING[0] not in to.getvalue()


def test_the_database_is_still_named() -> None:
    assert logged(url="postgresql://serai:hunter2@db.example/serai")["url"] == f"postgresql://{MASK}@db.example/serai"


@pytest.mark.parametrize(
    ("environment", "least", "shown"),
    [({}, "info", "iwe"), ({}, "error", "e"), ({"SERAI_LOG_LEVEL": "DEBUG"}, "error", "diwe"), ({}, "warning", "we")],
)
def test_levels(environment: dict[str, str], least: str, shown: str) -> None:
    to = io.StringIO()
    journal.configure(environment, stream=to, least=least)
    log = structlog.get_logger("x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert "".join(json.loads(line)["level"][0] for line in to.getvalue().splitlines()) == shown


def test_a_level_that_there_is_not() -> None:
    with pytest.raises(JournalError, match="'loud' is no level of logging: write debug, info"):
        journal.configure({"SERAI_LOG_LEVEL": "loud"})


def test_libraries_log_in_the_same_form() -> None:
    to = io.StringIO()
    journal.configure({}, stream=to)
    logging.getLogger("sqlalchemy").info("chatter")
    logging.getLogger("uvicorn").error("broken: Bearer %s", TELLING[0])
    (line,) = to.getvalue().splitlines()
    assert json.loads(line)["event"] == f"broken: {MASK}"


def test_bytes_are_counted_and_not_shown() -> None:
    assert logged(body=b"hunter2")["body"] == "7 bytes"
