"""How programs of the house log: for people on a terminal, one JSON object a line otherwise (journald, a file).

Only what starts a program configures this; all others ask ``structlog.get_logger``. What is bound with
``structlog.contextvars.bind_contextvars`` (a request's id, a host) is in every line that follows from it.
"""

from __future__ import annotations

import enum
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

MASK: Final = "[masked]"
"""Stands where a secret would."""

_SECRET_NAMES: Final = frozenset({
    "token", "secret", "password", "passphrase", "passwd", "key", "pem", "csr", "cookie", "authorization", "credential",
    "credentials", "tokens", "secrets", "passwords", "keys",
})  # fmt: skip
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRETS: Final = (
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"\bserai_[0-9a-f]{8,}_[0-9a-f]{8,}"),
    re.compile(r"\bserai1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{8,}(?:\.[0-9a-f]*)?"),
    re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
)
"""What is a secret wherever it stands: headers, tokens, JSON web tokens, private keys, passwords in addresses."""
_DEPTH: Final = 8


class JournalError(ValueError):
    """That is no level of logging; the message names those that there are."""


class Level(enum.StrEnum):
    """From which weight on something is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def level(environment: Mapping[str, str], otherwise: str = Level.INFO) -> Level:
    """Return what ``SERAI_LOG_LEVEL`` says, or ``otherwise``, which a config file may have said.

    Raises:
        JournalError: that is no level.
    """
    said = environment.get("SERAI_LOG_LEVEL") or otherwise
    try:
        return Level(said.lower())
    except ValueError:
        raise JournalError(f"{said!r} is no level of logging: write {', '.join(Level)}") from None


def configure(
    environment: Mapping[str, str],
    *,
    stream: TextIO | None = None,
    least: str = Level.INFO,
    colours: bool | None = None,
) -> None:
    """Have everything of this process log to ``stream`` (stderr) from now on.

    Args:
        environment: ``SERAI_LOG_LEVEL`` counts more than ``least``; ``NO_COLOR`` takes the colours away.
        stream: where to; None: standard error.
        least: the level, as a config file may say it.
        colours: None: on a terminal only.

    Raises:
        JournalError: the environment or the config names a level that there is not.
    """
    to = stream or sys.stderr
    terminal = to.isatty()
    coloured = (terminal and not environment.get("NO_COLOR")) if colours is None else colours
    shown: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown += (
        [structlog.processors.format_exc_info, masked, _console(coloured)]
        if terminal
        else [
            structlog.processors.format_exc_info, masked,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    )  # fmt: skip
    least_number = getattr(logging, level(environment, least).upper())
    structlog.configure(
        processors=shown,
        wrapper_class=structlog.make_filtering_bound_logger(least_number),
        logger_factory=structlog.PrintLoggerFactory(to),
        cache_logger_on_first_use=False,
    )
    # Libraries log with the standard library: from warnings on, in the same form.
    logging.basicConfig(handlers=[_Libraries()], level=max(least_number, logging.WARNING), force=True)


def _console(coloured: bool) -> structlog.dev.ConsoleRenderer:  # noqa: FBT001
    return structlog.dev.ConsoleRenderer(colors=coloured, exception_formatter=structlog.dev.plain_traceback)


def masked(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put ``MASK`` in the place of whatever is a secret by its name or by its looks."""
    return {name: _clean(name, value, 0) for name, value in event.items()}


def _clean(name: str, value: object, depth: int) -> object:
    if depth > _DEPTH or (_is_secret(name) and value is not None and not isinstance(value, bool | int | float)):
        return MASK
    match value:
        case str():
            for pattern in _SECRETS:
                value = pattern.sub(MASK, value)
            return value
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): _clean(str(key), each, depth + 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean("", each, depth + 1) for each in value]
        case _:
            return _clean("", str(value), depth + 1)


def _is_secret(name: str) -> bool:
    """Say whether a name has a word for secrets in it: ``join_token`` and ``apiKey`` do, ``keyboard`` does not."""
    return any(word.lower() in _SECRET_NAMES for word in _WORDS.findall(name))


class _Libraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said = structlog.get_logger(record.name)
        extra = {"exc_info": record.exc_info} if record.exc_info else {}
        getattr(said, Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING)(record.getMessage(), **extra)
