"""``serai get`` and ``serai delete``: resources in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
import msgspec
import yaml
from rich.table import Table

from serai.cli.apply import finish, require_yes
from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.cli.steps import summary, tell_steps
from serai.model.definitions import did_you_mean
from serai.model.resources import KINDS
from serai.wire import api
from serai.wire.client import Client, ClientError, resource_path

_SHORT = {"vm": "VirtualMachine", "vms": "VirtualMachine", "policies": "Policy"}
_PAGE = 500
_SILENCE_SECONDS = 60.0
"""After this long without even an empty line a watched controller is taken for dead."""


@click.command(short_help="Show resources in force.")
@click.argument("kind", required=False)
@click.argument("path", required=False)
@click.option("--scope", help="Only those in this scope, or below it.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only VMs that have this label.")
@click.option("-o", "form", type=click.Choice(["table", "yaml", "json"]), help="How.  [default: table; yaml for one]")
@click.option("--watch", is_flag=True, help="Show changes as they are made, until interrupted.")
def get(  # noqa: PLR0917  # one argument an option
    kind: str | None,
    path: str | None,
    scope: str | None,
    labels: tuple[str, ...],
    form: str | None,
    watch: bool,  # noqa: FBT001
) -> None:
    """Show the resources in force: all, those of a KIND, or the one at PATH.

    The YAML can be edited and applied: files may hold several documents.
    """
    kind = _kind(kind) if kind else None
    with connect() as client:
        if watch:
            _watch(client, json_=form == "json")
        elif kind and path:
            _show_one(client.ask("GET", resource_path(kind, path), api.Resource), form or "yaml")
        else:
            params = {"kind": kind, "scope": scope, "label": list(labels) or None}
            _show(list(_pages(client, params)), form or "table")


@click.command(short_help="Delete a resource.")
@click.argument("kind")
@click.argument("path")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def delete(kind: str, path: str, yes: bool, json_: bool) -> None:  # noqa: FBT001
    """Delete the resource of KIND at PATH, such as: serai delete Policy /acme:shop."""
    kind = _kind(kind)
    if not yes:
        require_yes(f"Delete {kind} {path}?")
    with connect() as client:
        done = client.either("DELETE", resource_path(kind, path), api.Applied, api.Proposed)
        finish(console(), client, done, wait=None, json_=json_)


def _kind(text: str) -> str:
    """Read a kind as people type it: ``policy``, ``Policies``, ``vm``."""
    lower = text.lower()
    for kind in KINDS:
        if lower in {kind.lower(), f"{kind.lower()}s"}:
            return kind
    if lower in _SHORT:
        return _SHORT[lower]
    raise click.BadParameter(f"there is no kind {text!r}{did_you_mean(text, KINDS) or '; known: ' + ', '.join(KINDS)}")


def _pages(client: Client, params: Mapping[str, object]) -> Iterator[api.Resource]:
    after: str | None = None
    while True:
        page = client.ask("GET", "/v1/resources", api.Page, params={**params, "limit": _PAGE, "after": after})
        yield from page.resources
        after = page.after
        if after is None:
            return


def _show_one(found: api.Resource, form: str) -> None:
    if form == "json":
        as_json(console(), msgspec.to_builtins(found))
    elif form == "yaml":
        line(console(), _yaml([found]).rstrip())
    else:
        _show([found], form)


def _show(found: list[api.Resource], form: str) -> None:
    if form == "json":
        as_json(console(), msgspec.to_builtins(found))
    elif form == "yaml":
        line(console(), _yaml(found).rstrip())
    else:
        table = Table("KIND", "PATH", "REVISION", box=None, pad_edge=False)
        for each in found:
            table.add_row(each.kind, each.path, str(each.revision))
        console().print(table)


def _yaml(found: list[api.Resource]) -> str:
    return yaml.safe_dump_all([dict(each.body) for each in found], sort_keys=False, allow_unicode=True)


def _watch(client: Client, *, json_: bool) -> None:
    since = client.ask("GET", "/v1/status", api.Status).revision
    to = console()
    for each in client.lines("/v1/watch", {"since": since}, seconds=_SILENCE_SECONDS):
        try:
            revision = msgspec.json.decode(each, type=api.Revision)
        except msgspec.ValidationError:
            problem = msgspec.json.decode(each, type=api.Problem)
            raise ClientError(problem.detail, status=problem.status) from None
        if json_:
            line(to, each.decode())
        else:
            line(to, f"Revision {revision.number}, {moment(revision.at)}, by {revision.by}: {summary(revision.steps)}.")
            tell_steps(to, revision.steps)
