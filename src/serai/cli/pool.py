"""``serai pool``: which hosts VMs may move between, and whether they are alike enough."""

from __future__ import annotations

import sys
from datetime import datetime

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.wire import placementapi
from serai.wire.client import Client, segment

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")


class PoolError(RuntimeError):
    """It cannot be told which pool is meant, or there is nothing to tell of it."""


@click.group()
def pool() -> None:
    """Say which hosts VMs may move between."""


@pool.command("list")
@_JSON
def list_(json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """List pools, their hosts, and what does not fit.

    Exit status: 0 all hosts fit the pools that they are in, 1 some do not, 2 nobody can tell.
    """
    with connect() as client:
        found = client.ask("GET", "/v1/pools", placementapi.Pools)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    elif found.pools:
        _tell_pools(console(), found)
    else:
        line(console(), "There are no pools: VMs move between all hosts.")
    sys.exit(1 if any(host.mismatches for each in found.pools for host in each.hosts) else 0)


@pool.command()
@click.argument("host")
@click.option("--pool", "name", metavar="NAME", help="Which pool.  [default: its own, or the only one]")
@_JSON
def admit(host: str, name: str | None, json_: bool) -> None:  # noqa: FBT001
    """List everything in which HOST does not fit a pool, whether it is in it or not. Nothing is changed.

    A host tells what it is made of when its agent connects; while it is away, what it has told last counts.

    Exit status: 0 it fits, 1 it does not, 2 nobody can tell.
    """
    with connect() as client:
        name = name or _meant(client, host)
        path = f"/v1/pools/{segment(name)}/admission/{segment(host)}"
        found = client.ask("GET", path, placementapi.Admission)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    else:
        _tell_admission(console(), found)
    sys.exit(0 if found.fits else 1)


@pool.command("baseline")
@click.argument("name")
def baseline_(name: str) -> None:
    """Print the CPU that VMs of the pool NAME may have, so that they run on all of its hosts: libvirt's XML, for their definitions."""
    from serai.inventory.facts import baseline  # noqa: PLC0415 (libvirt's library is slow to load, and not everywhere)

    with connect() as client:
        found = next(
            (each for each in client.ask("GET", "/v1/pools", placementapi.Pools).pools if each.name == name), None
        )
    if found is None:
        raise PoolError(f"there is no pool {name!r}: see `serai pool list`")
    if not found.cpus:
        raise PoolError(f"no host of the pool {name} has told what it is made of")
    line(console(), baseline(list(found.cpus)).rstrip())


def _meant(client: Client, host: str) -> str:
    """Return the pool that a host is in, or else the only one that there is."""
    pools = client.ask("GET", "/v1/pools", placementapi.Pools).pools
    own = [each.name for each in pools if any(member.host == host for member in each.hosts)]
    names = own or [each.name for each in pools]
    if len(names) != 1:
        raise PoolError(
            f"which pool? say --pool NAME: {', '.join(names)}" if names else "there are no pools: define one"
        )
    return names[0]


def _tell_pools(to: Console, found: placementapi.Pools) -> None:
    table = Table("POOL", "PROFILE", "HOST", "TOLD", "FITS", box=None, pad_edge=False)
    for each in found.pools:
        if not each.hosts:
            table.add_row(each.name, each.profile, "-", "-", "-")
        for host in each.hosts:
            fits = Text("no", "bold red") if host.mismatches else Text("yes", "green")
            table.add_row(each.name, each.profile, host.host, _told(host.told, connected=host.connected), fits)
    to.print(table)
    for each in found.pools:
        for host in each.hosts:
            for mismatch in host.mismatches:
                line(to, Text.assemble((f"{host.host} in {each.name}", "yellow"), f": it {mismatch.message}"))


def _tell_admission(to: Console, found: placementapi.Admission) -> None:
    pool = f"the pool {found.pool} ({found.profile})"
    if found.fits:
        what = "in which it is" if found.member else "add it to the pool's spec.hosts"
        line(to, Text.assemble((f"{found.host} fits {pool}", "bold green"), f": {what}."))
    else:
        line(to, Text.assemble((f"{found.host} does not fit {pool}", "bold red"), ":"))
        width = max(len(each.about) for each in found.mismatches)
        for each in found.mismatches:
            line(to, Text.assemble(f"  {each.about:<{width}}  ", f"it {each.message}"))
    if found.unused:
        line(to, f"VMs of the pool do not use of its CPU: {', '.join(found.unused)}.")
    if not found.connected:
        line(to, f"{found.host} is away: this is what it told {moment(found.told)}.", style="yellow")
    for other in found.absent:
        if other.told is not None:
            line(to, f"{other.host} is away: what it is, it told {moment(other.told)}.", style="yellow")


def _told(told: datetime | None, *, connected: bool) -> str:
    if told is None:
        return "never"
    return "connected" if connected else moment(told)
