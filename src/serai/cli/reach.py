"""``serai reach``: who can open connections to whom, and on which ports?"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from serai.cli.connection import AT, ask_in_force
from serai.cli.rows import show_rows
from serai.cli.show import as_json, console, line
from serai.inventory.files import load
from serai.policy.questions.form import answer_reach
from serai.wire import api

_FEW = 5


@click.command(short_help="List who can open connections to whom.")
@click.argument("directory", type=click.Path())
@click.option("--from", "source", metavar="SEL", help="Only connections from these.")
@click.option("--to", "target", metavar="SEL", help="Only connections to these.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def reach(directory: str, source: str | None, target: str | None, json_: bool) -> None:  # noqa: FBT001
    """List all connections that the policies in DIRECTORY, or those in force (@), accept, for every packet there can be.

    SEL is a VM (/acme/shop:web, or web), a scope (/acme), labels (role=web, or role=web,env=test; behind a scope in
    quotes: '/acme role=web'), an address or prefix (10.0.0.0/24), or 'outside': all that no VM holds.

    Exit status: 0 there are some, 1 there are none, 2 the question makes no sense.
    """
    found = _ask(directory, source, target)
    if json_:
        as_json(console(), found)
    else:
        _tell(console(), found, narrowed=bool(source or target))
    sys.exit(0 if found["reach"] else 1)


def _ask(directory: str, source: str | None, target: str | None) -> dict[str, Any]:
    if directory == AT:
        return ask_in_force("reach", api.ReachQuestion(source=source, target=target))
    return answer_reach(load(directory), source, target)


def _tell(to: Console, found: Mapping[str, Any], *, narrowed: bool) -> None:
    for domain, rows in itertools.groupby(found["reach"], lambda row: row["routingDomain"]):
        line(to, f"Routing domain {domain}", style="bold")
        show_rows(to, rows, found["versions"][domain])
        line(to, "")
    if found["reach"]:
        line(to, f"Nothing else {'of this kind ' if narrowed else ''}is accepted.")
    elif found["meet"]:
        line(to, "Nothing: both sides have to accept a connection, and they accept none of this kind.")
    else:
        line(to, "Nothing: no routing domain holds both, so that no packet can go from one to the other.")
    note_modes(to, found["observed"], found["isolated"])


def note_modes(to: Console, observed: Sequence[str], isolated: Sequence[str]) -> None:
    """Say whose gates do not do what policies say."""
    if observed:
        line(to, f"In observe mode, where what is denied passes all the same: {_few(observed)}.", style="yellow")
    if isolated:
        line(
            to,
            f"Isolated, so that the site's quarantine decides instead of policies: {_few(isolated)}.",
            style="yellow",
        )


def _few(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_FEW])
    return f"{shown} and {len(paths) - _FEW} more" if len(paths) > _FEW else shown
