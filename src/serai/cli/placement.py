"""``serai placement``: where VMs may run, and what is wrong about where they are."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.connection import AT, connect
from serai.cli.show import as_json, console, line
from serai.controller.placing.report import expected, report
from serai.inventory.files import load
from serai.wire.placementapi import PlacementReport

_MOST = 100
"""So many violations are shown to a person."""


@click.group()
def placement() -> None:
    """Say where VMs may run."""


@placement.command("check")
@click.argument("directory", type=click.Path(), default=AT)
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def check(directory: str, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List what is wrong about where VMs are: in the files of DIRECTORY, or in force (@).

    In force, VMs are where hosts report them; in files, where they are expected. For each host it is told how many tenants it can meet
    at the most: those that have a VM which may run there.

    Exit status: 0 nothing is wrong, 1 something is, 2 nobody can tell.
    """
    if directory == AT:
        with connect() as client:
            found = client.ask("GET", "/v1/placement", PlacementReport)
    else:
        world = load(directory)
        found = report(world, expected(world))
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    else:
        _tell(console(), found)
    sys.exit(1 if found.violations else 0)


def _tell(to: Console, found: PlacementReport) -> None:
    if found.hosts:
        _tell_hosts(to, found)
        line(to, "")
    looked = f"{found.vms} {'VM' if found.vms == 1 else 'VMs'} looked at, {_places(found)}"
    if not found.violations:
        line(to, f"Nothing is wrong: {looked}.")
        return
    number = len(found.violations)
    line(to, Text.assemble((f"{number} {'violation' if number == 1 else 'violations'}", "bold red"), f": {looked}."))
    for each in found.violations[:_MOST]:
        where = f" on {each.host}" if each.host else ""
        line(to, Text.assemble((f"{each.vm}{where}", "yellow"), f": {each.message}"))
    if number > _MOST:
        line(to, f"{number - _MOST} more are in --json.")


def _places(found: PlacementReport) -> str:
    if not found.reported:
        return "where they are expected"
    rest = found.vms - found.reported
    return f"{found.reported} where hosts report them{f', {rest} where they are expected' if rest else ''}"


def _tell_hosts(to: Console, found: PlacementReport) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("HOST", "POOL", "TAGS", "VMS", "TENANTS", "AT MOST"):
        table.add_column(heading, justify="right" if heading in {"VMS", "TENANTS", "AT MOST"} else "left")
    for each in found.hosts:
        tags = ", ".join(each.tags) or "-"
        table.add_row(each.host, each.pool or "-", tags, str(each.vms), str(each.tenants), str(each.tenants_most))
    to.print(table)
