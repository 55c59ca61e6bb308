"""``serai migrate`` and ``serai moves``: VMs move to other hosts with their rules and connections, and what was proven about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.awaiting import AT_ONCE, patiently
from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.proof import proven
from serai.cli.show import as_json, console, line
from serai.model.migration import Facts, Receipt
from serai.wire.client import Client, segment
from serai.wire.moveapi import AbortRequest, Move, MoveList, MoveRequest

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_ID = click.argument("name", metavar="ID")
INTERRUPTED = 130
SAYS = {
    "waiting": "it waits for its turn",
    "planned": "the destination is sent its rules",
    "prepared": "the destination's kernel holds them, and the source may begin",
    "copied": "its flows are there, and its memory follows",
    "switched": "the guest is stopped at the source",
    "live": "the destination's gate forwards, and the source's no more",
    "carried": "the flows that changed meanwhile are there, too",
    "fenced": "the source's gate is closed for good",
    "aborting": "it is being aborted",
    "done": "it is done",
    "aborted": "it is aborted",
}
"""What the states of a move mean."""


@click.command(short_help="Move a VM to another host.")
@click.argument("vm")
@click.argument("host")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it to its end.")
@_JSON
def migrate(vm: str, host: str, wait: bool, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Move the running VM to HOST, with its rules before it and its open connections along.

    Exit status: 0 it is there (or, with --no-wait, begun), 1 it was aborted and runs where it was, 2 it cannot be moved.
    """
    to = console()
    with connect() as client:
        found = client.ask("POST", "/v1/moves", Move, body=MoveRequest(vm=vm, to=host))
        if not json_:
            line(to, f"Move {found.number}: {found.vm} to host {found.to}.", style="bold")
        if wait:
            found = _followed(to, client, found, quiet=json_)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    elif not wait:
        line(to, f"  {_standing(found)}; see `serai moves show {found.number}`")
    elif found.receipt is not None:
        _tell_receipt(to, found.receipt)
    sys.exit(1 if found.state == "aborted" else 0)


@click.group(invoke_without_command=True, short_help="List moves of VMs, and what was proven about them.")
@click.option("--vm", help="Only of this VM.")
@click.option("--host", help="Only from this host, or to it.")
@click.option("--open", "open_", is_flag=True, help="Only those that are not over.")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@_JSON
@click.pass_context
def moves(  # noqa: PLR0917  # one argument an option
    ctx: click.Context, vm: str | None, host: str | None, open_: bool, number: int, json_: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """List moves of VMs, the latest first."""
    if ctx.invoked_subcommand is not None:
        return
    params = {"vm": vm, "host": host, "open": "true" if open_ else None, "limit": number}
    with connect() as client:
        found = client.ask("GET", "/v1/moves", MoveList, params=params)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    elif not found.moves:
        line(console(), "There are no such moves.")
    else:
        table = Table("MOVE", "ASKED", "BY", "VM", "FROM", "TO", "STATE", "NOTE", box=None, pad_edge=False)
        for each in found.moves:
            state = Text(each.state, {"done": "green", "aborted": "red"}.get(each.state, "yellow"))
            table.add_row(
                str(each.number), moment(each.asked), each.by, each.vm, each.source or "-", each.to, state, _note(each)
            )
        console().print(table)


@moves.command()
@_ID
@_JSON
def show(name: str, json_: bool) -> None:  # noqa: FBT001
    """Show the move ID (its number, or its id), and its receipt when it is over."""
    with connect() as client:
        found = client.ask("GET", _path(name), Move)
    to = console()
    if json_:
        as_json(to, msgspec.to_builtins(found))
        return
    line(to, f"Move {found.number}: {found.vm} from {found.source or '(not yet known)'} to {found.to}.", style="bold")
    line(to, f"  asked for by {found.by}, {moment(found.asked)}; id {found.id}")
    line(to, f"  {_standing(found)} since {moment(found.since)}")
    if found.receipt is not None:
        _tell_receipt(to, found.receipt)


@moves.command()
@_ID
@click.option("-m", "--message", default="", help="Why, for those who read the audit log.")
@_JSON
def abort(name: str, message: str, json_: bool) -> None:  # noqa: FBT001
    """Abort the move ID: the VM runs on, protected, where it is. From the moment that the guest is stopped at its source it is too late.

    Exit status: 0 it is aborted, 1 it came too late, and the VM has moved, 2 it cannot be aborted.
    """
    to = console()
    with connect() as client:
        found = client.ask("POST", f"{_path(name)}/abort", Move, body=AbortRequest(why=message))
        found = _followed(to, client, found, quiet=json_)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    sys.exit(0 if found.state == "aborted" else 1)


@moves.command()
@_ID
@click.option("--key", help="The log's public key, in base64.  [default: what this machine has seen]")
@_JSON
def verify(name: str, key: str | None, json_: bool) -> None:  # noqa: FBT001
    """Compare the receipt of the move ID with the audit log, whose signed tree proves that it was not changed.

    The log is compared with all that this machine has seen of it, and its checkpoint is kept for the next time.

    Exit status: 0 it is proven, 1 it is not, 2 nobody can tell.
    """
    with connect() as client:
        found = client.ask("GET", _path(name), Move)
        verdict = proven(client, found, key)
    to = console()
    if json_:
        as_json(to, msgspec.to_builtins(verdict))
    elif verdict.ok:
        what = f": the receipt of move {found.number} is record {verdict.seq} of the audit log ({verdict.size} records, root {verdict.root[:16]})"
        line(
            to,
            Text.assemble(
                ("Proven", "bold green"),
                f"{what}{', which continues what this machine has seen' if verdict.continues else ''}.",
            ),
        )
    else:
        line(to, Text.assemble(("Not proven", "bold red"), f": the receipt of move {found.number}."))
        for fault in verdict.faults:
            line(to, f"  {fault}")
    sys.exit(0 if verdict.ok else 1)


def _path(name: str) -> str:
    return f"/v1/moves/{segment(name)}"


def _followed(to: Console, client: Client, found: Move, *, quiet: bool) -> Move:
    """Follow a move to its end, and tell each state that it comes to."""
    told = ""
    try:
        for each in _changes(client, found):
            found = each
            if not quiet and (standing := _standing(each)) != told:
                told = standing
                line(to, f"  {max(0.0, (each.since - each.asked).total_seconds()):7.2f} s  {standing}")
    except KeyboardInterrupt:
        number = found.number
        line(console(stderr=True), f"The move goes on: `serai moves show {number}`, `serai moves abort {number}`.")
        sys.exit(INTERRUPTED)
    return found


def _changes(client: Client, found: Move) -> Iterator[Move]:
    """Go through all that becomes of a move; a controller may be away for a while."""
    yield found
    while found.ended is None:
        params = {"seen": found.version, "timeout": AT_ONCE}
        found = patiently(lambda: client.ask("GET", _path(found.id), Move, params=params, seconds=AT_ONCE + 30))  # noqa: B023 (asked at once)
        yield found


def _standing(each: Move) -> str:
    if each.state == "aborted" and each.why:
        return f"aborted: {each.why}"
    note = f" ({each.why})" if each.why else ""
    return f"{each.state}: {SAYS[each.state]}{note}"


def _note(each: Move) -> str:
    if each.why or each.receipt is None:
        return each.why
    took = f"{each.receipt.ended - each.receipt.began:.1f} s"
    silent = f", {' and '.join(each.receipt.unheard)} did not tell" if each.receipt.unheard else ""
    gap = "" if each.facts.gap_us is None else f", gap {each.facts.gap_us / 1000:.0f} ms"
    return f"{took}{gap}{silent}"


def _tell_receipt(to: Console, receipt: Receipt) -> None:
    """Show what was proven. What nobody has told is called unknown, and never 0."""
    for name, value in _rows(receipt, receipt.facts):
        line(to, Text.assemble(f"  {name:<23}", value))


def _rows(receipt: Receipt, facts: Facts) -> Iterator[tuple[str, str | Text]]:
    ticket = receipt.ticket
    known = not receipt.unheard
    least = "" if known else "at least "
    yield "from, to", f"{ticket.source} to {ticket.to}, move {ticket.epoch} of this VM"
    yield "took", f"{receipt.ended - receipt.began:.2f} s, reached {receipt.reached!s}"
    yield "rules attested", facts.digest or "not reached"
    yield (
        "flows carried",
        f"{least}{facts.flows_first} before the guest was stopped, {least}{facts.flows_later} after; {least}{facts.refused} not taken, as its rules allow no such connection",
    )
    unprotected = f"{least}{facts.unprotected}"
    yield "unprotected packets", Text(unprotected, "green" if known and not facts.unprotected else "yellow")
    yield "guest's memory went", {True: "over TLS", False: "in the clear", None: "unknown how"}[facts.encrypted]
    yield "guest was stopped for", "unknown" if facts.gap_us is None else f"{facts.gap_us / 1000:.1f} ms"
    if receipt.unheard:
        yield "not told by", Text(", ".join(receipt.unheard), "yellow")
    if receipt.why:
        yield ("but" if receipt.made else "aborted"), Text(receipt.why, "yellow" if receipt.made else "red")
