"""``serai evacuate``, ``serai rebalance`` and ``serai relocations``: many VMs move by one plan, a few at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec
from rich.table import Table
from rich.text import Text

from serai.cli.apply import require_yes
from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.planshown import planned, shown, tell_stuck
from serai.cli.relocationshown import is_well, path, state, summary, tell_end, tell_moves, what
from serai.cli.relocationwatch import followed
from serai.cli.show import as_json, console, line
from serai.wire.planapi import PlanRequest
from serai.wire.relocationapi import (
    AtATime,
    RelocationList,
    RelocationRequest,
    RelocationShown,
    StopRequest,
    moves_digest,
)

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_ID = click.argument("name", metavar="ID")
_USUAL = AtATime()
_PLAN_SECONDS = 120.0
"""How long a plan is waited for."""

F = TypeVar("F", bound=Callable[..., Any])


def _how(command: F) -> F:
    """Add the options that say how a plan is carried out."""
    for option in (
        _JSON,
        click.option("--detach", is_flag=True, help="Begin it, and do not follow it."),
        click.option("-y", "--yes", is_flag=True, help="Ask nothing."),
        click.option("--of-a-host", type=click.IntRange(1, 1000), default=_USUAL.of_a_host, show_default=True,
                     help="Moves at a time of one host, from it or to it."),
        click.option("--together", type=click.IntRange(1, 1000), default=_USUAL.together, show_default=True,
                     help="Moves at a time in all."),
        click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and do nothing."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(short_help="Move all VMs away from hosts.")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@_how
def evacuate(  # noqa: PLR0917  # one argument an option
    hosts: tuple[str, ...], only_plan: bool, together: int, of_a_host: int, yes: bool, detach: bool, json_: bool,  # noqa: FBT001 (click calls it by name)
) -> None:  # fmt: skip
    """Move all VMs away from each HOST, to where they may run, with their rules before them and their connections along.

    The plan is shown first, and just that plan is carried out, by the controller: whoever interrupts this command stops nothing. When a
    move fails, no more begin; the same command again makes a new plan, from where VMs are then. VMs that cannot move are named with what
    keeps them.

    Exit status: 0 no VM is left (with --plan: all can move; with --detach: it has begun), 1 some stay, or it has failed, or was stopped,
    or you said no, 2 it cannot be done.
    """
    goal = PlanRequest(evacuate=list(dict.fromkeys(hosts)))
    _relocate(
        goal, AtATime(together=together, of_a_host=of_a_host), only_plan=only_plan, yes=yes, detach=detach, json_=json_
    )


@click.command(short_help="Fill the hosts of a pool equally.")
@click.argument("pool")
@_how
def rebalance(  # noqa: PLR0917  # one argument an option
    pool: str, only_plan: bool, together: int, of_a_host: int, yes: bool, detach: bool, json_: bool,  # noqa: FBT001 (click calls it by name)
) -> None:  # fmt: skip
    """Move VMs between the hosts of POOL until they are about equally full, with few moves.

    The plan is shown first, and just that plan is carried out, as `serai evacuate` does it.

    Exit status: 0 it is done (or there was nothing to do; with --plan: it can be done; with --detach: it has begun), 1 it has failed, or
    was stopped, or you said no, 2 it cannot be done.
    """
    goal = PlanRequest(rebalance=pool)
    _relocate(
        goal, AtATime(together=together, of_a_host=of_a_host), only_plan=only_plan, yes=yes, detach=detach, json_=json_
    )


def _relocate(goal: PlanRequest, limits: AtATime, *, only_plan: bool, yes: bool, detach: bool, json_: bool) -> None:
    to = console()
    with connect() as client:
        plan = planned(client, goal)
        moves = sum(map(len, plan.rounds))
        if not json_:
            shown(plan)
        if only_plan or not moves:
            if json_:
                as_json(to, msgspec.to_builtins(plan))
            sys.exit(1 if plan.stuck else 0)
        if not yes:
            line(console(stderr=True), "")
            require_yes(f"Make {'this move' if moves == 1 else f'these {moves} moves'}?")
        request = RelocationRequest(
            evacuate=goal.evacuate, rebalance=goal.rebalance, together=limits.together, of_a_host=limits.of_a_host,
            expect=moves_digest(plan),
        )  # fmt: skip
        found = client.ask("POST", "/v1/relocations", RelocationShown, body=request, seconds=_PLAN_SECONDS)
        number = found.relocation.number
        if not json_:
            line(to, "")
            line(to, f"Relocation {number}: {what(found.relocation)}.", style="bold")
        if not detach:
            found = followed(to, client, found.relocation.id, quiet=json_)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    elif detach:
        line(to, f"  It has begun: `serai relocations show {number} --follow`, `serai relocations stop {number}`.")
    else:
        tell_end(to, found)
    sys.exit(0 if detach or is_well(found.relocation) else 1)


@click.group(invoke_without_command=True, short_help="List plans of moves that are, or were, carried out.")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@_JSON
@click.pass_context
def relocations(ctx: click.Context, number: int, json_: bool) -> None:  # noqa: FBT001
    """List plans of moves that are, or were, carried out, the latest first."""
    if ctx.invoked_subcommand is not None:
        return
    with connect() as client:
        found = client.ask("GET", "/v1/relocations", RelocationList, params={"limit": number})
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    elif not found.relocations:
        line(console(), "There are none: `serai evacuate HOST` and `serai rebalance POOL` begin one.")
    else:
        table = Table("NUMBER", "ASKED", "BY", "WHAT", "STATE", "MOVES", "STUCK", "NOTE", box=None, pad_edge=False)
        for each in found.relocations:
            stuck = Text(str(each.stuck), "yellow") if each.stuck else Text("-")
            table.add_row(
                str(each.number), moment(each.asked), each.by, what(each), state(each), summary(each), stuck, each.why
            )
        console().print(table)


@relocations.command()
@_ID
@click.option("--follow", is_flag=True, help="Follow it to its end.")
@_JSON
def show(name: str, follow: bool, json_: bool) -> None:  # noqa: FBT001
    """Show the relocation ID (its number, or its id): how far it has come, each of its moves, and the VMs that are stuck.

    Exit status: 0; with --follow: 0 all is done, 1 VMs stay, or it has failed, or was stopped.
    """
    to = console()
    with connect() as client:
        found = client.ask("GET", path(name), RelocationShown)
        each = found.relocation
        if not json_:
            line(to, f"Relocation {each.number}: {what(each)}.", style="bold")
            line(to, f"  asked for by {each.by}, {moment(each.asked)}; id {each.id}")
        if follow:
            found = followed(to, client, each.id, quiet=json_)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    elif follow:
        tell_end(to, found)
    else:
        note = f" ({each.why})" if each.why else ""
        line(to, Text.assemble("  ", state(each), f": {summary(each)}{note}"))
        line(to, f"  at a time: {each.together} moves, {each.of_a_host} of one host")
        tell_moves(to, found.begun)
        tell_stuck(to, found.plan.stuck if found.plan else ())
    sys.exit(1 if follow and not is_well(found.relocation) else 0)


@relocations.command()
@_ID
@click.option("-m", "--message", default="", help="Why, for those who read the audit log.")
@_JSON
def stop(name: str, message: str, json_: bool) -> None:  # noqa: FBT001
    """Stop the relocation ID: moves that are under way go on to their end, and no more begin.

    Exit status: 0 it is stopped, 1 it ended otherwise before, 2 it cannot be stopped.
    """
    to = console()
    with connect() as client:
        found = client.ask("POST", f"{path(name)}/stop", RelocationShown, body=StopRequest(why=message))
        found = followed(to, client, found.relocation.id, quiet=json_)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    else:
        tell_end(to, found)
    sys.exit(0 if found.relocation.state == "stopped" else 1)
