"""``serai diff``: which connections does a change open, and which does it close?"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console

from serai.cli.connection import AT, ask_in_force
from serai.cli.rows import show_changes
from serai.cli.show import as_json, console, line
from serai.inventory.files import load, read_directory
from serai.policy.questions.form import answer_diff
from serai.policy.questions.question import QuestionError
from serai.wire import api


@click.command(short_help="List the connections that a change opens and closes.")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def diff(old: str, new: str, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List the connections that policies accept in the directory NEW and not in OLD (+), and the other way (-).

    With @ for OLD it is what `serai apply NEW` would open and close of what is in force.

    It is about what is in force, for every packet there can be. Exit status: 0 no difference, 1 some, 2 a directory
    cannot be used.
    """
    found = _ask(old, new)
    if json_:
        as_json(console(), found)
    else:
        _tell(console(), found)
    sys.exit(1 if found["opened"] or found["closed"] else 0)


def _ask(old: str, new: str) -> dict[str, Any]:
    if new == AT:
        raise QuestionError("what is in force is what comes first: write `serai diff @ DIRECTORY`")
    if old == AT:
        return ask_in_force("diff", api.ChangeRequest(files=dict(read_directory(new))))
    return answer_diff(load(old), load(new))


def _tell(to: Console, found: Mapping[str, Any]) -> None:
    opened, closed = (
        {domain: list(rows) for domain, rows in itertools.groupby(found[side], lambda row: row["routingDomain"])}
        for side in ("opened", "closed")
    )
    for domain in sorted({*opened, *closed}):
        line(to, f"Routing domain {domain}", style="bold")
        show_changes(to, opened.get(domain, ()), closed.get(domain, ()), found["versions"][domain])
        line(to, "")
    line(to, _summary(opens=bool(opened), closes=bool(closed)))


def _summary(*, opens: bool, closes: bool) -> str:
    if opens and closes:
        return "Connections are opened (+) and closed (-)."
    if opens or closes:
        return "Connections are opened (+), none is closed." if opens else "Connections are closed (-), none is opened."
    return "No difference: the same connections are accepted."
