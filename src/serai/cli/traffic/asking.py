"""What verbs about traffic have in common: when, which records, and how complete the answer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.show import as_json, console, line
from serai.wire.flowapi import Completeness

T = TypeVar("T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_SECONDS: Final = 120.0
_WHOLE: Final = 100.0

JSON: Final = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
FILTER: Final = click.option(
    "--filter",
    "narrowed",
    default="",
    metavar="FILTER",
    help="Only these records, such as 'dport=443 and verdict=denied'.",
)


def during(default: str) -> Callable[[_Command], _Command]:
    """Add the options that say when."""

    def add(command: _Command) -> _Command:
        until = click.option("--until", default="now", show_default=True, help="Until when.")
        since = click.option(
            "--since",
            default=default,
            show_default=True,
            help="Since when: 90s, 2h, 7d, 14:00, yesterday, 2026-11-24 14:00.",
        )
        return since(until(command))

    return add


def window(since: str, until: str) -> dict[str, str]:
    """Read times as people write them, for a request.

    Raises:
        WhenError: they are none.
    """
    from serai.analysis.when import parse_window  # noqa: PLC0415  # slow to load, and a shell that completes waits

    found = parse_window(since, until, datetime.now(UTC).astimezone())
    return {"since": found.since.isoformat(), "until": found.until.isoformat()}


def ask(path: str, kind: type[T], params: Mapping[str, Any]) -> T:
    """Ask the controller.

    Raises:
        ClientError: it does not answer, or says no.
    """
    with connect() as client:
        return client.ask(
            "GET",
            path,
            kind,
            params={name: value for name, value in params.items() if value not in {"", None}},
            seconds=_SECONDS,
        )


def told_as_json(answer: msgspec.Struct, *, json_: bool) -> bool:
    """Print an answer as it is, where that is asked for; say whether it was."""
    if json_:
        as_json(console(), msgspec.to_builtins(answer))
    return json_


def tell_complete(found: Completeness) -> None:
    """Say how complete an answer was; on the standard error, so that it is no part of what is passed on."""
    whole = found.percent >= _WHOLE and not found.silent_hosts
    line(console(stderr=True), Text(found.sentence(), style="dim" if whole else "yellow"))
