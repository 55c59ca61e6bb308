"""``serai audit``: who did what, and whether the log of it is whole."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.cli.witness import Witness, kept, verifier
from serai.model.audit_trail import verify_export
from serai.wire import api, profile

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_OUTCOMES = {"done": "", "refused": "yellow", "failed": "red"}
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
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--key", help="The log's public key, in base64.  [default: what this machine has seen]")
@_JSON
def verify(file: Path | None, key: str | None, json_: bool) -> None:  # noqa: FBT001
    """Look for anything that was done to the log behind the controllers' backs; with FILE, to an export of it.

    It is compared with all checkpoints that this machine has seen, and the latest one is kept for the next time: whoever
    has verified once notices if the database is rolled back. For a FILE no controller is asked.

    Exit status: 0 it is whole, 1 it is not, 2 nobody can tell.
    """
    verdict, seen = _verified_file(file, key) if file else _verified(key)
    if json_:
        as_json(console(), msgspec.to_builtins(verdict))
    elif verdict.ok:
        known = f", and continues the {len(seen.notes)} checkpoints that this machine has seen" if seen.notes else ""
        signed = "" if seen.key else " (signatures were not looked at: say --key)"
        whole = f": {verdict.size} records, root {verdict.root[:16]}{known}{signed}."
        line(console(), Text.assemble(("Whole", "bold green"), whole))
    else:
        line(console(), Text.assemble(("Not whole", "bold red"), f": {verdict.size} records."))
        for fault in verdict.faults:
            line(console(), f"  {fault}")
    sys.exit(0 if verdict.ok else 1)


def _verified(key: str | None) -> tuple[api.AuditVerdict, Witness]:
    """Have the controller look, and look at what it says."""
    with connect() as client:
        file = kept(os.environ, client.url)
        before = _seen(file, key)
        body = api.AuditVerifyRequest(checkpoints=before.notes)
        verdict = client.ask("POST", "/v1/audit/verify", api.AuditVerdict, body=body, seconds=_VERIFY_SECONDS)
        now = client.ask("GET", "/v1/audit/checkpoint", api.Checkpoint)
        if faults := [*verdict.faults, *before.faults(now)]:
            return msgspec.structs.replace(verdict, ok=False, faults=faults), before
        if verdict.ok:
            before.having(now).write(file)
        return verdict, msgspec.structs.replace(before, key=now.key)


def _verified_file(file: Path, key: str | None) -> tuple[api.AuditVerdict, Witness]:
    """Look at an export; no controller is needed."""
    try:
        seen = _seen(kept(os.environ, profile.find(os.environ).url), key)
    except profile.ProfileError:
        seen = Witness(key=key or "")
    try:
        with file.open("rb") as lines:
            size, root, faults = verify_export(lines, seen.notes, verifier(seen.key) if seen.key else None)
    except OSError as error:
        raise ExportError(f"{file} cannot be read: {error.strerror or error}") from error
    return api.AuditVerdict(ok=not faults, size=size, root=root.hex(), faults=faults), seen


def _seen(file: Path, key: str | None) -> Witness:
    seen = Witness.read(file)
    return msgspec.structs.replace(seen, key=key) if key else seen


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
