"""``serai map`` and ``serai who``: who talks to whom."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.show import console, line
from serai.cli.traffic.asking import FILTER, JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count, size
from serai.wire import flowapi

_SERVICES: Final = 4
"""Of one pair that are named."""
_VERDICT: Final = 8
_STYLES: Final = {"accepted": "", "denied": "red", "observed": "yellow"}


@click.command("map", short_help="Draw which groups talk to which.")
@click.argument("scope", default="/")
@during("1h")
@click.option("--group", default="scope", show_default=True, help="What is one node: scope, label:KEY, tenant or vm.")
@click.option(
    "--depth",
    type=click.IntRange(0, 32),
    default=0,
    help="How many names of a scope are told: 1 shows tenants.  [default: all]",
)
@FILTER
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="How many edges.")
@click.option("--dot", is_flag=True, help="Answer in the language of Graphviz.")
@JSON
def map_(  # noqa: PLR0917  # one argument an option
    scope: str, since: str, until: str, group: str, depth: int, narrowed: str, limit: int, *, dot: bool, json_: bool
) -> None:
    """Draw which groups of VMs open what to which, in SCOPE and from and to it."""
    asked = {"scope": scope, "group": group, "depth": depth, "filter": narrowed, "limit": limit} | window(since, until)
    found = ask("/v1/map", flowapi.ServiceMap, asked)
    if told_as_json(found, json_=json_):
        return
    if dot:
        for text in _dot(found):
            line(console(), text)
    else:
        _draw(console(), found.edges)
    if found.more:
        line(console(stderr=True), f"And {found.more} smaller edges: say -n, or a narrower scope.", style="dim")
    tell_complete(found.completeness)


def _draw(to: Console, edges: Sequence[flowapi.MapEdge]) -> None:
    """Print a line for each pair of groups and verdict, with its largest services."""
    pairs: dict[tuple[str, str, str], list[flowapi.MapEdge]] = {}
    for edge in edges:
        pairs.setdefault((edge.source, edge.target, edge.verdict), []).append(edge)
    width = max((len(target) for _, target, _ in pairs), default=0)
    order = {name: at for at, name in enumerate(dict.fromkeys(edge.source for edge in edges))}
    for source, group in itertools.groupby(sorted(pairs, key=lambda pair: order[pair[0]]), key=lambda pair: pair[0]):
        line(to, source, style="bold")
        for pair in group:
            _, target, verdict = pair
            services = pairs[pair]
            named = ", ".join(f"{each.service} {size(each.bytes)}" for each in services[:_SERVICES])
            more = f" and {len(services) - _SERVICES} more" if len(services) > _SERVICES else ""
            text = Text(f"  → {target.ljust(width)}  ")
            text.append(verdict.ljust(_VERDICT), _STYLES[verdict])
            text.append(f"  {size(sum(each.bytes for each in services)).rjust(9)}  {named}{more}")
            line(to, text)


def _dot(found: flowapi.ServiceMap) -> Iterator[str]:
    yield "digraph traffic {"
    yield "  rankdir=LR; node [shape=box, style=rounded];"
    for node in found.nodes:
        yield f"  {json.dumps(node.name)};"
    for edge in found.edges:
        style = ', color="red", style=dashed' if edge.verdict == "denied" else ""
        yield f"  {json.dumps(edge.source)} -> {json.dumps(edge.target)} [label={json.dumps(f'{edge.service} {size(edge.bytes)}')}{style}];"
    yield "}"


@click.command(short_help="List with whom a VM spoke.")
@click.argument("vm")
@during("1d")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many.")
@JSON
def who(vm: str, since: str, until: str, limit: int, *, json_: bool) -> None:
    """List the peers and services of VM (its name or its path), and when each was seen first and last."""
    found = ask("/v1/who", flowapi.Who, {"vm": vm, "limit": limit} | window(since, until))
    if told_as_json(found, json_=json_):
        return
    to = console()
    for heading, direction in ((f"{found.vm} opened", "egress"), (f"Opened to {found.vm}", "ingress")):
        rows = [row for row in found.peers if row.direction == direction]
        line(to, heading, style="bold")
        if not rows:
            line(to, "  nothing", style="dim")
            continue
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in (
            "  TO" if direction == "egress" else "  FROM",
            "SERVICE",
            "VERDICT",
            "BYTES",
            "CONNECTIONS",
            "FIRST",
            "LAST",
        ):
            table.add_column(name, justify="right" if name in {"BYTES", "CONNECTIONS"} else "left", overflow="fold")
        for row in rows:
            verdict = Text(row.verdict, _STYLES[row.verdict])
            table.add_row(
                f"  {row.peer}",
                row.service,
                verdict,
                size(row.bytes),
                count(row.connections),
                _short(row.first),
                _short(row.last),
            )
        to.print(table)
    if found.more:
        line(console(stderr=True), f"And {found.more} more: say -n.", style="dim")
    tell_complete(found.completeness)


def _short(at: datetime) -> str:
    return f"{at.astimezone():%m-%d %H:%M}"
