"""``serai drops``: what gates dropped, and why."""

from __future__ import annotations

import click
from rich.table import Table

from serai.cli.show import console, line
from serai.cli.traffic.asking import JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count
from serai.wire import flowapi


@click.command(short_help="List what was dropped, and why.")
@click.argument("of", default="/", metavar="[VM|SCOPE]")
@during("1h")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many gates.")
@JSON
def drops(of: str, since: str, until: str, limit: int, *, json_: bool) -> None:
    """List the packets that gates dropped, or would have dropped where they only observe: of a VM, or of all that is in a scope.

    First by reason, then by gate. docs/REASONS.md says more about reasons.
    """
    found = ask("/v1/drops", flowapi.Drops, {"of": of, "limit": limit} | window(since, until))
    if told_as_json(found, json_=json_):
        return
    to = console()
    line(to, f"{found.of}: {count(found.packets)} packets were dropped", style="bold")
    if found.reasons:
        to.print(_by_reason(found))
        line(to, "")
        to.print(_by_gate(found))
    if found.more:
        line(console(stderr=True), f"And {found.more} more: say -n.", style="dim")
    tell_complete(found.completeness)


def _by_reason(found: flowapi.Drops) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("REASON", "PACKETS", "GATES", "WHAT IT MEANS"):
        table.add_column(heading, justify="right" if heading in {"PACKETS", "GATES"} else "left", overflow="fold")
    for row in found.reasons:
        table.add_row(row.reason, count(row.packets), str(row.vnics), row.description)
    return table


def _by_gate(found: flowapi.Drops) -> Table:
    hosts = any(row.host for row in found.rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("GATE", *(["HOST"] if hosts else []), "DIRECTION", "REASON", "PACKETS", "LAST"):
        table.add_column(heading, justify="right" if heading == "PACKETS" else "left", overflow="fold")
    for row in found.rows:
        table.add_row(
            row.vnic or "(unknown)",
            *([row.host] if hosts else []),
            row.direction,
            row.reason,
            count(row.packets),
            f"{row.last.astimezone():%m-%d %H:%M:%S}",
        )
    return table
