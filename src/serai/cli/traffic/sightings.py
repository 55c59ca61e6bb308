"""``serai sightings``: what the links of a VM needed to work."""

from __future__ import annotations

from itertools import groupby
from typing import Final

import click
from rich.table import Table

from serai.cli.show import console, line
from serai.cli.traffic.asking import JSON, ask, during, tell_complete, told_as_json, window
from serai.cli.traffic.figures import count
from serai.wire import flowapi

_WRITTEN: Final = {"arp": "ARP", "dhcp": "DHCP", "dhcpv6": "DHCPv6"}


@click.command(short_help="List what the links of a VM needed to work.")
@click.argument("vm")
@during("1d")
@JSON
def sightings(vm: str, since: str, until: str, *, json_: bool) -> None:
    """List the messages that gates saw of ARP, neighbor discovery and DHCP, to and from VM (its name or its path).

    Of each kind it is told how many there were, which address the last was about, and when the first and the last came by; those that were dropped count, too.
    """
    found = ask("/v1/sightings", flowapi.Sightings, {"vm": vm} | window(since, until))
    if told_as_json(found, json_=json_):
        return
    to = console()
    if not found.rows:
        line(to, f"Nothing of the kind was seen of {found.vm}.", style="dim")
    for vnic, rows in groupby(found.rows, key=lambda row: row.vnic):
        line(to, vnic, style="bold")
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("  KIND", "DIRECTION", "PACKETS", "LAST ABOUT", "FIRST", "LAST"):
            table.add_column(heading, justify="right" if heading == "PACKETS" else "left", overflow="fold")
        for row in rows:
            first, last = (f"{at.astimezone():%m-%d %H:%M:%S}" for at in (row.first, row.last))
            table.add_row(f"  {_words(row.kind)}", row.direction, count(row.packets), row.address or "-", first, last)
        to.print(table)
    tell_complete(found.completeness)


def _words(kind: str) -> str:
    return " ".join(_WRITTEN.get(word, word) for word in kind.split("_"))
