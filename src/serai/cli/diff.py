"""``serai diff``: which connections does a change open, and which does it close?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.console import Console

from serai.cli.rows import row_fields, show_changes
from serai.cli.show import as_json, console, line
from serai.inventory.files import load
from serai.policy.questions.diff import Difference
from serai.policy.questions.diff import diff as compare


@click.command(short_help="List the connections that a change opens and closes.")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def diff(old: str, new: str, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List the connections that policies accept in the directory NEW and not in OLD (+), and the other way (-).

    It is about what is in force, for every packet there can be. Exit status: 0 no difference, 1 some, 2 a directory
    cannot be used.
    """
    found = compare(load(old), load(new))
    if json_:
        opened = [row_fields(row) for domain in found for row in domain.opened]
        closed = [row_fields(row) for domain in found for row in domain.closed]
        as_json(console(), {"opened": opened, "closed": closed})
    else:
        _tell(console(), found)
    sys.exit(1 if any(domain.opened or domain.closed for domain in found) else 0)


def _tell(to: Console, found: Sequence[Difference]) -> None:
    changed = [domain for domain in found if domain.opened or domain.closed]
    for domain in changed:
        line(to, f"Routing domain {domain.routing_domain}", style="bold")
        show_changes(to, domain.opened, domain.closed, domain.versions)
        line(to, "")
    line(to, _summary(changed) if changed else "No difference: the same connections are accepted.")


def _summary(changed: Sequence[Difference]) -> str:
    opens, closes = any(domain.opened for domain in changed), any(domain.closed for domain in changed)
    if opens and closes:
        return "Connections are opened (+) and closed (-)."
    return "Connections are opened (+), none is closed." if opens else "Connections are closed (-), none is opened."
