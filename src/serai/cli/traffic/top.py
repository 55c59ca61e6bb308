"""``serai top``: the most of something."""

from __future__ import annotations

from typing import Final, get_args

import click
from rich.table import Table
from rich.text import Text

from serai.cli.show import console, line
from serai.cli.traffic.asking import FILTER, JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import bar, count, size
from serai.wire import flowapi

_BAR: Final = 12


@click.command(short_help="List who and what has the most traffic.")
@click.argument("by", type=click.Choice(get_args(flowapi.TopBy)), default="talkers")
@during("1h")
@click.option(
    "--group",
    default="vm",
    show_default=True,
    help="What VMs are put together by: vm, tenant, scope or label:KEY; talkers and listeners also by network or host.",
)
@FILTER
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@JSON
def top(by: str, since: str, until: str, group: str, narrowed: str, limit: int, *, json_: bool) -> None:  # noqa: PLR0917
    """List the most of something: talkers (who sends), listeners (who receives), pairs, protocols, services, or what is denied."""
    found = ask(
        "/v1/top", flowapi.Top, {"by": by, "group": group, "filter": narrowed, "limit": limit} | window(since, until)
    )
    if told_as_json(found, json_=json_):
        return
    table = Table(box=None, pad_edge=False)
    for heading in found.headings:
        table.add_column(heading.upper(), overflow="fold")
    for heading in ("BYTES", "SHARE", "", "PACKETS", "CONNECTIONS"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    by_packets = found.by == "denied"
    whole = found.total.packets if by_packets else found.total.bytes
    for row in found.rows:
        share = (row.packets if by_packets else row.bytes) / whole if whole else 0.0
        table.add_row(
            *row.names,
            size(row.bytes),
            f"{share:.1%}",
            Text(bar(share, _BAR), "cyan"),
            count(row.packets),
            count(row.connections),
        )
    console().print(table)
    total = found.total
    line(
        console(),
        f"In all {size(total.bytes)}, {count(total.packets)} packets, {count(total.connections)} connections.",
        style="dim",
    )
    tell_complete(found.completeness)
