"""``serai audit``: who did what, and whether the log of it is whole."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from rich.table import Table
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.wire import api, profile
from serai.wire.client import Client

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_OUTCOMES = {"done": "", "refused": "yellow", "failed": "red"}
_KEPT = 50
"""Checkpoints that are kept of one controller, the latest."""
_END = "\0"
_VERIFY_SECONDS = 600.0


class ExportError(RuntimeError):
    """There is no place for the export, or it was cut off."""


@click.group()
def audit() -> None:
    """Look at who did what, and whether the log of it is whole."""


@audit.command()
@click.option("-n", "number", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@click.option("--after", type=click.IntRange(min=-1), help="Those behind this number.  [default: the latest]")
@click.option("--scope", help="Only in this scope, or below it.")
@click.option("--verb", help="Only this.")
@click.option("--by", help="Only by this person.")
@_JSON
def log(  # noqa: PLR0917  # one argument an option
    number: int,
    after: int | None,
    scope: str | None,
    verb: str | None,
    by: str | None,
    json_: bool,  # noqa: FBT001
) -> None:
    """List who did what, or tried to, oldest first."""
    with connect() as client:
        narrow = {"scope": scope, "verb": verb, "by": by}
        if after is None and not any(narrow.values()):
            after = client.ask("GET", "/v1/audit/checkpoint", api.Checkpoint).size - number - 1
        params = {**narrow, "limit": number, "after": after if after is not None and after >= 0 else None}
        found = client.ask("GET", "/v1/audit", api.AuditPage, params=params)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
        return
    table = Table("NUMBER", "AT", "WHO", "DID", "WHAT", "WHERE", "OUTCOME", box=None, pad_edge=False)
    for each in found.records:
        outcome = Text(each.outcome, _OUTCOMES[each.outcome])
        table.add_row(str(each.seq), moment(each.at), each.who, each.verb, each.object, each.scope, outcome)
    console().print(table)
    if found.after is not None:
        line(console(), f"More: --after {found.after}", style="dim")


@audit.command()
@_JSON
def verify(json_: bool) -> None:  # noqa: FBT001
    """Look for anything that was done to the log behind the controllers' backs.

    It is compared with all checkpoints that this machine has seen, and the latest one is kept for the next time: whoever
    has verified once notices if the database is rolled back.

    Exit status: 0 it is whole, 1 it is not, 2 nobody can tell.
    """
    with connect() as client:
        file = _kept(client)
        notes = _notes(file)
        body = api.AuditVerifyRequest(checkpoints=notes)
        verdict = client.ask("POST", "/v1/audit/verify", api.AuditVerdict, body=body, seconds=_VERIFY_SECONDS)
        if verdict.ok:
            note = client.ask("GET", "/v1/audit/checkpoint", api.Checkpoint).note
            profile.keep(file, _END.join([*(each for each in notes if each != note), note][-_KEPT:]))
    if json_:
        as_json(console(), msgspec.to_builtins(verdict))
    elif verdict.ok:
        since = f", and continues the {len(notes)} checkpoints that this machine has seen" if notes else ""
        line(
            console(),
            Text.assemble(("Whole", "bold green"), f": {verdict.size} records, root {verdict.root[:16]}{since}."),
        )
    else:
        line(console(), Text.assemble(("Not whole", "bold red"), f": {verdict.size} records."))
        for fault in verdict.faults:
            line(console(), f"  {fault}")
    sys.exit(0 if verdict.ok else 1)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(file: Path) -> None:
    """Write the whole log to FILE, a record a line, and its signed checkpoint behind it (- is the standard output)."""
    number = 0
    with connect() as client, contextlib.ExitStack() as stack:
        try:
            beside = file.with_name(f".{file.name}.part")
            stream = sys.stdout.buffer if str(file) == "-" else stack.enter_context(beside.open("wb"))
            for number, each in enumerate(client.lines("/v1/audit/export"), 1):  # noqa: B007 (it is told)
                stream.write(each + b"\n")
            if str(file) != "-":
                stream.close()
                beside.replace(file)
        except OSError as error:
            raise ExportError(f"{file} cannot be written: {error.strerror or error}") from error
    line(console(stderr=True), f"{number} lines written to {file}.")


def _kept(client: Client) -> Path:
    name = urlsplit(client.url).netloc.replace(":", "_").replace("[", "").replace("]", "")
    return profile.user_file(os.environ).with_name(f"checkpoints-{name}")


def _notes(file: Path) -> list[str]:
    try:
        return [note for note in file.read_text().split(_END) if note]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file}, the checkpoints that this machine has seen, cannot be read: {error}") from error
