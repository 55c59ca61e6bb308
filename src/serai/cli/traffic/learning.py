"""``serai suggest`` and ``serai whatif``: policies from traffic, and traffic against policies."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.show import console, line
from serai.cli.traffic.asking import JSON, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count, size
from serai.inventory.files import read_directory
from serai.wire import flowapi

_SECONDS: Final = 600.0


class OutputError(RuntimeError):
    """There is no place for what was asked for."""


@click.command(short_help="Write the least policy that admits what was seen.")
@click.argument("scope")
@during("7d")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to a file.  [default: the standard output]",
)
@JSON
def suggest(scope: str, since: str, until: str, output: Path | None, *, json_: bool) -> None:
    """Write, for the VMs of SCOPE, the least policies that admit the traffic on record, grouped by labels and services.

    Each rule says in a comment what was seen. Look at them before you apply them: what was seen need not be what should be.
    """
    times = window(since, until)
    body = flowapi.SuggestRequest(
        scope=scope, since=datetime.fromisoformat(times["since"]), until=datetime.fromisoformat(times["until"])
    )
    with connect() as client:
        found = client.ask("POST", "/v1/suggest", flowapi.Suggestion, body=body, seconds=_SECONDS)
    if told_as_json(found, json_=json_):
        return
    if output is None:
        sys.stdout.write(found.yaml)
    else:
        try:
            output.write_text(found.yaml)
        except OSError as error:
            raise OutputError(f"{output} cannot be written: {error.strerror or error}") from error
    to = console(stderr=True)
    for note in found.notes:
        line(to, f"Note: {note}", style="yellow")
    line(to, f"{count(found.conversations)} kinds of conversations are admitted.", style="dim")
    tell_complete(found.completeness)


@click.command(short_help="Replay what was seen against other policies.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@during("7d")
@click.option("--prune", metavar="SCOPE", help="As if what is in SCOPE and stands in no file were deleted.")
@JSON
def whatif(directory: Path, since: str, until: str, prune: str | None, *, json_: bool) -> None:
    """Replay the traffic on record as if the files of DIRECTORY were applied, and list what would newly be denied or allowed.

    Nothing is changed. Exit status: 0 nothing would newly be denied, 1 something would.
    """
    times = window(since, until)
    files = dict(read_directory(directory))
    body = flowapi.WhatIfRequest(
        files=files,
        prune=prune,
        since=datetime.fromisoformat(times["since"]),
        until=datetime.fromisoformat(times["until"]),
    )
    with connect() as client:
        found = client.ask("POST", "/v1/whatif", flowapi.WhatIf, body=body, seconds=_SECONDS)
    if not told_as_json(found, json_=json_):
        _show(found)
    sys.exit(1 if any(row.change == "denied" for row in found.rows) else 0)


def _show(found: flowapi.WhatIf) -> None:
    to = console()
    for change, style in (("denied", "red"), ("allowed", "green")):
        rows = [row for row in found.rows if row.change == change]
        line(to, f"Newly {change}: {len(rows)}", style=f"bold {style}" if rows else "bold")
        if rows:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for name in ("  FROM", "TO", "SERVICE", "CONNECTIONS", "BYTES", "LAST", "RULE NOW", "RULE THEN"):
                table.add_column(name, justify="right" if name in {"BYTES", "CONNECTIONS"} else "left", overflow="fold")
            for row in rows:
                last = f"{row.last.astimezone():%m-%d %H:%M}"
                table.add_row(
                    f"  {row.source}",
                    row.target,
                    row.service,
                    count(row.connections),
                    size(row.bytes),
                    last,
                    Text(row.rule_before),
                    Text(row.rule_after),
                )
            to.print(table)
    if found.more:
        line(to, f"And {found.more} more.", style="dim")
    for note in found.notes:
        line(console(stderr=True), f"Note: {note}", style="yellow")
    unknown = (
        f"; {count(found.unknown)} could not be: an end is gone, or the record says too little" if found.unknown else ""
    )
    line(to, f"{count(found.conversations)} kinds of conversations were replayed{unknown}.", style="dim")
    tell_complete(found.completeness)
