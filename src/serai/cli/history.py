"""``serai history``, ``show``, ``confirm`` and ``rollback``: the changes that were made."""

from __future__ import annotations

import click
import msgspec
from rich.table import Table

from serai.cli.apply import finish, require_yes
from serai.cli.connection import connect
from serai.cli.duration import Duration, moment
from serai.cli.show import as_json, console, line
from serai.cli.steps import summary, tell_steps
from serai.wire import api

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")


class NothingWaitsError(ValueError):
    """There is nothing to confirm, or several things."""


@click.command(short_help="List the changes that were made.")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--before", type=click.IntRange(min=1), help="Only those before this revision.")
@_JSON
def history(number: int, before: int | None, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List the changes that were made, the latest first."""
    with connect() as client:
        found = client.ask("GET", "/v1/revisions", api.Revisions, params={"limit": number, "before": before})
    if json_:
        as_json(console(), msgspec.to_builtins(found))
        return
    table = Table("REVISION", "AT", "BY", "CHANGES", "MESSAGE", box=None, pad_edge=False)
    for each in found.revisions:
        notes = [f"takes back {each.reverts}"] if each.reverts is not None else []
        notes += [] if each.confirmed else ["not confirmed"]
        said = f"{each.message} ({', '.join(notes)})" if notes else each.message
        table.add_row(str(each.number), moment(each.at), each.by, summary(each.steps), said.strip())
    console().print(table)


@click.command(short_help="Show one change that was made.")
@click.argument("revision", type=click.IntRange(min=0))
@_JSON
def show(revision: int, json_: bool) -> None:  # noqa: FBT001
    """Show what REVISION has changed."""
    with connect() as client:
        found = client.ask("GET", f"/v1/revisions/{revision}", api.Revision)
    to = console()
    if json_:
        as_json(to, msgspec.to_builtins(found))
        return
    line(
        to,
        f"Revision {found.number}, {moment(found.at)}, by {found.by}: {found.message or '(no message)'}",
        style="bold",
    )
    if found.reverts is not None:
        line(to, f"It takes back revision {found.reverts}.")
    if not found.confirmed and found.confirm_by:
        line(to, f"It is rolled back at {moment(found.confirm_by)} unless confirmed.", style="yellow")
    tell_steps(to, found.steps)


@click.command(short_help="Let a change stand.")
@click.argument("revision", type=click.IntRange(min=0), required=False)
@_JSON
def confirm(revision: int | None, json_: bool) -> None:  # noqa: FBT001
    """Let REVISION stand, which would be rolled back by itself otherwise; without it, the one that waits."""
    with connect() as client:
        if revision is None:
            waits = [each.number for each in client.ask("GET", "/v1/status", api.Status).confirm]
            if len(waits) != 1:
                which = (
                    f"{', '.join(map(str, waits))} wait: say which" if waits else "no revision waits to be confirmed"
                )
                raise NothingWaitsError(which)
            [revision] = waits
        found = client.ask("POST", f"/v1/revisions/{revision}/confirm", api.Revision)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    else:
        line(console(), f"Revision {found.number} stands.")


@click.command(short_help="Make everything as it was at a revision.")
@click.argument("revision", type=click.IntRange(min=0))
@click.option("-m", "--message", default="", help="Why, for those who read the history.")
@click.option(
    "--confirm", "confirm_seconds", type=Duration(), metavar="TIME", help="Undo this unless confirmed by then."
)
@click.option("--wait", "wait", type=Duration(), metavar="TIME", is_flag=False, flag_value=30, default=None,
              help="Wait until all hosts hold it; at most so long (30s unless said).")  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_JSON
def rollback(  # noqa: PLR0917  # one argument an option
    revision: int, message: str, confirm_seconds: int | None, wait: int | None, yes: bool, json_: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Make everything as it was at REVISION. That is a new revision, and can be rolled back itself."""
    if not yes:
        require_yes(f"Make everything as it was at revision {revision}?")
    body = api.RollbackRequest(
        to=revision, message=message or f"back to revision {revision}", confirm_seconds=confirm_seconds
    )
    with connect() as client:
        done = client.either("POST", "/v1/rollback", api.Applied, api.Proposed, body=body)
        finish(console(), client, done, wait=wait, json_=json_)
