"""``serai flows``: single records of traffic."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console

from serai.cli.connection import connect
from serai.cli.show import console, line
from serai.cli.traffic.asking import JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.columns import Columns
from serai.cli.traffic.following import PAGE, Follower, follow
from serai.wire import flowapi


@click.command(short_help="List records of traffic.")
@click.argument("narrowed", nargs=-1, metavar="[FILTER]...")
@during("1h")
@click.option("-n", "--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="How many.")
@click.option("-f", "--follow", "following", is_flag=True, help="Print what comes; with --since, also what came since.")
@JSON
@click.pass_context
def flows(
    ctx: click.Context,
    narrowed: tuple[str, ...],
    since: str,
    until: str,
    limit: int,
    *,
    following: bool,
    json_: bool,
) -> None:
    """List what gates have counted, record by record; with a FILTER, only what it fits, such as 'vm=web-1 and verdict=denied'.

    A record is what one gate counted of one conversation in about ten seconds; a conversation between two VMs is told by both their gates.
    With --follow and --json, each line is a record. docs/FLOWS.md has all that a filter may say.
    """
    text = " ".join(narrowed)
    if following:
        if _is_typed(ctx, "until") or _is_typed(ctx, "limit"):
            raise click.UsageError("--follow has no end: leave --until and --limit out")
        begin = datetime.fromisoformat(window(since, "now")["since"]) if _is_typed(ctx, "since") else datetime.now(UTC)
        _follow(text, begin, json_=json_)
        return
    found = ask("/v1/flows", flowapi.FlowPage, {"filter": text, "limit": limit} | window(since, until))
    if told_as_json(found, json_=json_):
        return
    to = console()
    dated = len({record.at.astimezone().date() for record in found.records} | {datetime.now().astimezone().date()}) > 1
    columns = Columns(found.records, _edge(to), dated=dated)
    line(to, columns.heading(), style="bold")
    for record in reversed(found.records):
        line(to, columns.row(record))
    if found.after is not None:
        line(console(stderr=True), f"Only the latest {limit}: say -n, or narrow it down.", style="dim")
    tell_complete(found.completeness)


def _follow(narrowed: str, begin: datetime, *, json_: bool) -> None:
    to = console()
    columns: Columns | None = None

    def show(records: Sequence[flowapi.Record]) -> None:
        nonlocal columns
        if json_:
            for record in records:
                line(to, json.dumps(msgspec.to_builtins(record)))
            return
        if columns is None:
            if not records and not to.is_terminal:
                return
            columns = Columns(records, _edge(to))
            line(to, columns.heading(), style="bold")
        for record in records:
            line(to, columns.row(record))

    with connect() as client, contextlib.suppress(KeyboardInterrupt):
        follow(Follower(client, narrowed, begin), show)


def _is_typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _edge(to: Console) -> int | None:
    return to.width if to.is_terminal else None
