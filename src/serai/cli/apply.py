"""``serai plan`` and ``serai apply``: what a change would do, and doing just that."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.console import Console

from serai.cli.connection import connect
from serai.cli.duration import Duration, moment
from serai.cli.hosts import tell_behind, wait_for
from serai.cli.show import as_json, console, line
from serai.cli.steps import summary, tell_plan
from serai.inventory.files import read_directory
from serai.wire import api
from serai.wire.client import Client

_PLAN_SECONDS = 120.0

_DIRECTORY = click.argument("directory", type=click.Path())
_PRUNE = click.option("--prune", metavar="SCOPE", help="Delete what is in this scope or below, and in no file.")
_BASE = click.option(
    "--base", type=click.IntRange(min=0), help="Refuse if what is changed was changed after this revision."
)
_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")


class NotConfirmedError(RuntimeError):
    """Nobody has said yes."""


@click.command(short_help="Say what applying files would do.")
@_DIRECTORY
@_PRUNE
@_BASE
@_JSON
def plan(directory: str, prune: str | None, base: int | None, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Say what `serai apply` would make of the files of DIRECTORY. Nothing is changed.

    Exit status: 0 nothing to do, 1 something, 2 it cannot come into force.
    """
    with connect() as client:
        made = _plan(client, _request(directory, prune, base))
    if json_:
        as_json(console(), msgspec.to_builtins(made))
    else:
        tell_plan(console(), made)
    sys.exit(1 if made.steps else 0)


@click.command(short_help="Put the files of a directory into force.")
@_DIRECTORY
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and do nothing: as `serai plan`.")
@_PRUNE
@click.option("--confirm", type=Duration(), metavar="TIME", help="Roll back by itself unless confirmed by then: 5m.")
@click.option("--wait", "wait", type=Duration(), metavar="TIME", is_flag=False, flag_value=30, default=None,
              help="Wait until all hosts hold it; at most so long (30s unless said).")  # fmt: skip
@click.option("-m", "--message", default="", help="Why, for those who read the history.")
@_BASE
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@_JSON
def apply(  # noqa: PLR0917  # one argument an option
    directory: str, only_plan: bool, prune: str | None, confirm: int | None, wait: int | None, message: str,  # noqa: FBT001
    base: int | None, yes: bool, json_: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """Put the resources in the YAML files of DIRECTORY into force: all of them, or none.

    The plan is shown first, and just that plan is carried out. What is in force and in no file stays, unless --prune says
    otherwise. Before --yes, nothing is changed without your word.

    Exit status: 0 done (or proposed, or nothing to do), 1 not all hosts hold it in time, or you said no, 2 it cannot be done.
    """
    to = console()
    with connect() as client:
        request = _request(directory, prune, base, message=message, confirm_seconds=confirm)
        made = _plan(client, request)
        if only_plan or not made.steps:
            if json_:
                as_json(to, msgspec.to_builtins(made))
            else:
                tell_plan(to, made)
            sys.exit(1 if made.steps else 0)
        if not json_:
            tell_plan(to, made)
        if not yes:
            require_yes("Apply this?")
        request = msgspec.structs.replace(request, expect=made.digest)
        done = client.either("POST", "/v1/apply", api.Applied, api.Proposed, body=request)
        finish(to, client, done, wait=wait, json_=json_)


def require_yes(question: str) -> None:
    """Ask the person at the terminal.

    Raises:
        NotConfirmedError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise NotConfirmedError("there is nobody to ask: say --yes")
    if not click.confirm(question, err=True):
        line(console(stderr=True), "Nothing was changed.")
        sys.exit(1)


def finish(to: Console, client: Client, done: api.Applied | api.Proposed, *, wait: int | None, json_: bool) -> None:
    """Tell what became of a change, and wait for the hosts where somebody wants to."""
    status = None
    if isinstance(done, api.Applied) and wait is not None:
        status = wait_for(client, done.revision, wait)
    if json_:
        as_json(to, {**msgspec.to_builtins(done), **({"status": msgspec.to_builtins(status)} if status else {})})
    elif isinstance(done, api.Proposed):
        line(
            to,
            f"Proposal {done.proposal} waits for somebody else until {moment(done.expires)}: `serai approve {done.proposal}`.",
        )
    else:
        line(to, f"Revision {done.revision} is in force: {summary(done.steps)}.")
        if done.confirm_by is not None:
            line(
                to,
                f"It is rolled back at {moment(done.confirm_by)} unless you run `serai confirm {done.revision}`.",
                style="yellow",
            )
        if status is not None:
            tell_behind(to, status)
    if status is not None and status.behind:
        sys.exit(1)


def _request(
    directory: str, prune: str | None, base: int | None, *, message: str = "", confirm_seconds: int | None = None
) -> api.ChangeRequest:
    files = dict(read_directory(directory))
    return api.ChangeRequest(files=files, prune=prune, base=base, message=message, confirm_seconds=confirm_seconds)


def _plan(client: Client, request: api.ChangeRequest) -> api.Plan:
    return client.ask("POST", "/v1/plan", api.Plan, body=request, seconds=_PLAN_SECONDS)
