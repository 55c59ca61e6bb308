"""``serai status`` and ``serai host``: where hosts stand, and who may join."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.cli.connection import connect
from serai.cli.duration import moment
from serai.cli.show import as_json, console, line
from serai.wire import api
from serai.wire.client import Client, segment

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
_AT_ONCE = 60
"""Seconds that one request waits at the most; then it is asked again."""
_FEW = 10


@click.command(short_help="Show which hosts hold what is in force.")
@click.argument("name", metavar="[HOST]", required=False)
@_JSON
def status(name: str | None, json_: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Show the revision in force, and which hosts hold it; with HOST, that host and its gates.

    Exit status: 0 all hosts that have joined hold what they should, 1 some do not, 2 nobody can tell.
    """
    to = console()
    with connect() as client:
        if name is not None:
            host = client.ask("GET", f"/v1/hosts/{segment(name)}", api.HostStatus)
            if json_:
                as_json(to, msgspec.to_builtins(host))
            else:
                _tell_host(to, host)
            sys.exit(1 if _lags(host) else 0)
        found = client.ask("GET", "/v1/status", api.Status)
    if json_:
        as_json(to, msgspec.to_builtins(found))
    else:
        _tell(to, found)
    sys.exit(1 if any(map(_lags, found.hosts)) else 0)


@click.group()
def host() -> None:
    """Let hosts join, and part with them."""


@host.command()
@click.argument("name")
@_JSON
def token(name: str, json_: bool) -> None:  # noqa: FBT001
    """Let the host NAME join: print what to run there. It is good once, for a quarter of an hour."""
    with connect() as client:
        made = client.ask("POST", "/v1/join-tokens", api.JoinToken, body=api.JoinTokenRequest(host=name))
    if json_:
        as_json(console(), msgspec.to_builtins(made))
        return
    line(console(stderr=True), f"Run this on {made.host}, before {moment(made.expires)}:")
    line(console(), f"serai agent join {client.url} --host {made.host} --token {made.token}")


@host.command("list")
@_JSON
def list_(json_: bool) -> None:  # noqa: FBT001
    """List the hosts that have joined, or may."""
    with connect() as client:
        found = client.ask("GET", "/v1/hosts", api.Hosts)
    if json_:
        as_json(console(), msgspec.to_builtins(found))
    else:
        console().print(_table(found.hosts))


@host.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
def revoke(name: str, yes: bool) -> None:  # noqa: FBT001
    """Make the certificate of the host NAME worthless, at once. Its gates go on with what they have."""
    if not yes:
        click.confirm(f"{name} will be told nothing more. Revoke it?", abort=True, err=True)
    with connect() as client:
        client.tell("POST", f"/v1/hosts/{segment(name)}/revoke")
    line(console(), f"{name} is revoked: it can come back by `serai host token {name}` only.")


def wait_for(client: Client, revision: int, seconds: float) -> api.Status:
    """Wait until all connected hosts hold a revision, or the time is over; say which."""
    end = time.monotonic() + seconds
    while True:
        left = max(0.0, end - time.monotonic())
        params = {"revision": revision, "timeout": min(left, _AT_ONCE)}
        found = client.ask("GET", "/v1/wait", api.Status, params=params, seconds=_AT_ONCE + 30)
        if not found.behind or left <= _AT_ONCE:
            return found


def tell_behind(to: Console, found: api.Status) -> None:
    """Say whether hosts hold what they should, and which do not."""
    joined = [each for each in found.hosts if each.joined]
    behind = [each for each in joined if _lags(each)]
    if not behind:
        line(to, f"{_hosts(len(joined))} {'holds' if len(joined) == 1 else 'hold'} it.")
        return
    line(
        to,
        f"{len(behind)} of {_hosts(len(joined))} {'does' if len(behind) == 1 else 'do'} not hold it:",
        style="yellow",
    )
    for each in behind[:_FEW]:
        line(to, f"  {each.name}: {_why(each)}")
    if len(behind) > _FEW:
        line(to, f"  and {len(behind) - _FEW} more: see `serai status`")


def _tell(to: Console, found: api.Status) -> None:
    leader = f", compiled by {found.leader}" if found.leader else ", and no controller compiles: see their logs"
    line(to, f"Revision {found.revision} is in force{leader}.", style="bold")
    for each in found.confirm:
        until = moment(each.confirm_by) if each.confirm_by else "soon"
        line(
            to,
            f"Revision {each.number} by {each.by} is rolled back at {until} unless confirmed: `serai confirm {each.number}`.",
            style="yellow",
        )
    if not found.hosts:
        line(to, "No host has joined: `serai host token NAME` lets one.")
        return
    to.print(_table(found.hosts))
    tell_behind(to, found)


def _table(hosts: Sequence[api.HostStatus]) -> Table:
    table = Table("HOST", "AGENT", "REVISION", "RULESET", "VNICS", "STATE", box=None, pad_edge=False)
    for each in hosts:
        state = Text(_state(each), "yellow" if _lags(each) or each.revoked else "green")
        table.add_row(
            each.name, each.agent or "-", str(each.revision), (each.holds or "-")[:12], str(each.vnics), state
        )
    return table


def _state(each: api.HostStatus) -> str:
    return _why(each) if _lags(each) or each.revoked else "holds what it should"


def _tell_host(to: Console, each: api.HostStatus) -> None:
    since = f" since {moment(each.since)}" if each.since else ""
    line(to, f"{each.name}: {_state(each)}.", style="bold")
    line(
        to,
        f"  {'connected' if each.connected else 'silent'}{since}, agent {each.agent or 'unknown'}, life {each.epoch}",
    )
    line(
        to,
        f"  holds {(each.holds or 'nothing')[:12]} (revision {each.revision}), should hold {(each.wanted or 'nothing')[:12]}",
    )
    if each.certificate_until:
        line(to, f"  certificate until {moment(each.certificate_until)}{', revoked' if each.revoked else ''}")
    if each.gates:
        table = Table("VNIC", "TAP", "GATE", box=None, pad_edge=False)
        for gate in each.gates:
            table.add_row(gate.vnic, gate.tap or "-", gate.mode or "closed")
        to.print(table)


def _lags(each: api.HostStatus) -> bool:
    return each.joined and not each.revoked and (each.behind or not each.connected)


def _why(each: api.HostStatus) -> str:
    if each.revoked:
        return "revoked"
    if not each.joined:
        return "has not joined"
    if not each.connected:
        kept = "" if each.holds else ", and holds nothing"
        return f"silent{f' since {moment(each.since)}' if each.since else ''}{kept}"
    if each.trouble:
        return each.trouble
    return "behind: is being told" if each.behind else "connected"


def _hosts(number: int) -> str:
    return f"{number} host{'' if number == 1 else 's'}"
