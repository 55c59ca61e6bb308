"""How changes are shown: what becomes of resources, and which connections that opens and closes."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.show import line
from serai.wire import api

_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}
_DONE = {"create": "created", "change": "changed", "delete": "deleted"}
_FIELDS_SHOWN = 4
_MOST_CONNECTIONS = 40


def summary(steps: Sequence[api.Step]) -> str:
    """Count steps in one phrase."""
    number: collections.Counter[str] = collections.Counter(step.does for step in steps)
    parts = [f"{number[does]} {done}" for does, done in _DONE.items() if number[does]]
    return ", ".join(parts) or "nothing changed"


def tell_steps(to: Console, steps: Sequence[api.Step]) -> None:
    """List what becomes of resources, one a line."""
    for step in steps:
        sign, style = _SIGNS[step.does]
        shown = ", ".join(step.fields[:_FIELDS_SHOWN])
        more = f" and {len(step.fields) - _FIELDS_SHOWN} more" if len(step.fields) > _FIELDS_SHOWN else ""
        fields = f"  ({shown}{more})" if shown else ""
        line(to, Text.assemble((f"{sign} {step.kind} {step.path}", style), (fields, "dim")))


def tell_plan(to: Console, plan: api.Plan) -> None:
    """Show what a change would do, so that somebody can say yes to it."""
    if not plan.steps:
        line(to, f"Nothing to do: all of it is in force already, as of revision {plan.base}.")
        return
    tell_steps(to, plan.steps)
    line(to, "")
    _tell_connections(to, plan.connections)
    hosts = len(plan.hosts)
    sent = "no host is sent" if not hosts else f"{hosts} host{'s are' if hosts > 1 else ' is'} sent"
    line(to, f"Plan: {summary(plan.steps)}, upon revision {plan.base}; {sent} another ruleset.")
    if plan.approvals > 1:
        line(to, f"It takes {plan.approvals} people: it will wait for somebody else's `serai approve`.", style="yellow")


def _tell_connections(to: Console, connections: Sequence[api.Opening] | None) -> None:
    if connections is None:
        line(to, "Which connections it opens and closes is too much to calculate here: ask `serai diff` about a part.")
        return
    if not connections:
        line(to, "It opens and closes no connections.")
        return
    table = Table("", "FROM", "TO", "ON", box=None, pad_edge=False)
    for each in connections[:_MOST_CONNECTIONS]:
        sign, style = ("+", "green") if each.change == "opens" else ("-", "red")
        table.add_row(Text(sign, style), each.sources, each.targets, each.ports, style=style)
    to.print(table)
    opened = sum(each.change == "opens" for each in connections)
    rest = (
        f" ({len(connections) - _MOST_CONNECTIONS} more are in --json)" if len(connections) > _MOST_CONNECTIONS else ""
    )
    line(to, f"Connections: {opened} rows opened (+), {len(connections) - opened} closed (-){rest}.")
