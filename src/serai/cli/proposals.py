"""``serai proposals``, ``approve`` and ``reject``: changes that need a second person."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console
from rich.table import Table

from serai.cli.apply import require_yes
from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.cli.steps import summary, tell_steps
from serai.wire import api
from serai.wire.client import Client

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_YES = click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
_NUMBER = click.argument("number", metavar="ID", type=click.IntRange(min=0))


class NoProposalError(ValueError):
    """There is no such proposal."""


@click.command(short_help="List changes that wait for a second person.")
@click.option("--all", "all_", is_flag=True, help="Those that are decided, too.")
@_JSON
def proposals(all_: bool, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List changes that wait for a second person, the latest first."""
    with connect() as client:
        found = [each for each in _all(client) if all_ or each.state == "open"]
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    elif not found:
        line(console(), "No change waits for a second person.")
    else:
        table = Table("ID", "BY", "STATE", "BEHIND IT", "UNTIL", "CHANGES", "MESSAGE", box=None, pad_edge=False)
        for each in found:
            behind = f"{len(each.approvals)} of {each.needs}"
            table.add_row(
                str(each.id), each.by, each.state, behind, moment(each.expires), summary(each.steps), each.message
            )
        console().print(table)


@click.command(short_help="Stand behind a proposal.")
@_NUMBER
@_YES
@_JSON
def approve(number: int, yes: bool, json_: bool) -> None:  # noqa: FBT001
    """Stand behind the proposal ID, as it is shown. It is applied when enough people do."""
    to = console()
    with connect() as client:
        seen = _seen(client, number)
        if not json_:
            _tell(to, seen)
        if not yes:
            require_yes("Approve this?")
        body = api.Vote(digest=seen.digest)
        came = client.either("POST", f"/v1/proposals/{number}/approve", api.Applied, api.Proposal, body=body)
    if json_:
        as_json(to, msgspec.to_builtins(came))
    elif isinstance(came, api.Applied):
        line(to, f"Revision {came.revision} is in force: {summary(came.steps)}.")
    else:
        line(to, f"{len(came.approvals)} of {came.needs} people stand behind it now.")


@click.command(short_help="Close a proposal.")
@_NUMBER
@_YES
@_JSON
def reject(number: int, yes: bool, json_: bool) -> None:  # noqa: FBT001
    """Close the proposal ID: it will not be applied. Who proposed it may withdraw it so."""
    with connect() as client:
        seen = _seen(client, number)
        if not yes:
            _tell(console(stderr=True), seen)
            require_yes("Reject this?")
        came = client.ask("POST", f"/v1/proposals/{number}/reject", api.Proposal, body=api.Vote(digest=seen.digest))
    if json_:
        as_json(console(), msgspec.to_builtins(came))
    else:
        line(console(), f"Proposal {number} is rejected.")


def _all(client: Client) -> list[api.Proposal]:
    return list(client.ask("GET", "/v1/proposals", api.Proposals).proposals)


def _seen(client: Client, number: int) -> api.Proposal:
    for each in _all(client):
        if each.id == number:
            return each
    raise NoProposalError(f"there is no proposal {number}: `serai proposals --all` lists them")


def _tell(to: Console, each: api.Proposal) -> None:
    line(
        to,
        f"Proposal {each.id} by {each.by}, until {moment(each.expires)}: {each.message or '(no message)'}",
        style="bold",
    )
    tell_steps(to, each.steps)
