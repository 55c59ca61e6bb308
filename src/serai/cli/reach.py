"""``serai reach``: who can open connections to whom, and on which ports?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.console import Console

from serai.cli.rows import row_fields, show_rows
from serai.cli.selection import parse_choice
from serai.cli.show import as_json, console, line
from serai.inventory.files import load
from serai.policy.questions.reach import Reach
from serai.policy.questions.reach import reach as reach_of

_FEW = 5


@click.command(short_help="List who can open connections to whom.")
@click.argument("directory", type=click.Path())
@click.option("--from", "source", metavar="SEL", help="Only connections from these.")
@click.option("--to", "target", metavar="SEL", help="Only connections to these.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def reach(directory: str, source: str | None, target: str | None, json_: bool) -> None:  # noqa: FBT001
    """List all connections that the policies in DIRECTORY accept, for every packet there can be.

    SEL is a VM (/acme/shop:web, or web), a scope (/acme), labels (role=web, or role=web,env=test; behind a scope in
    quotes: '/acme role=web'), an address or prefix (10.0.0.0/24), or 'outside': all that no VM holds.

    Exit status: 0 there are some, 1 there are none, 2 the question makes no sense.
    """
    world = load(directory)
    found = reach_of(world, parse_choice(world, source), parse_choice(world, target))
    if json_:
        as_json(console(), _fields(found))
    else:
        _tell(console(), found, narrowed=bool(source or target))
    sys.exit(0 if any(domain.rows for domain in found) else 1)


def _fields(found: Sequence[Reach]) -> dict[str, object]:
    return {
        "reach": [row_fields(row) for domain in found for row in domain.rows],
        "observed": sorted({path for domain in found for path in domain.observed}),
        "isolated": sorted({path for domain in found for path in domain.isolated}),
    }


def _tell(to: Console, found: Sequence[Reach], *, narrowed: bool) -> None:
    shown = [domain for domain in found if domain.rows]
    for domain in shown:
        line(to, f"Routing domain {domain.routing_domain}", style="bold")
        show_rows(to, domain.rows, domain.versions)
        line(to, "")
    if shown:
        line(to, f"Nothing else {'of this kind ' if narrowed else ''}is accepted.")
    elif any(domain.meet for domain in found):
        line(to, "Nothing: both sides have to accept a connection, and they accept none of this kind.")
    else:
        line(to, "Nothing: no routing domain holds both, so that no packet can go from one to the other.")
    note_modes(to, sorted({p for d in found for p in d.observed}), sorted({p for d in found for p in d.isolated}))


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
