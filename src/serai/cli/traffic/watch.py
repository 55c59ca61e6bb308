"""``serai watch``: traffic as it goes."""

from __future__ import annotations

import sys

import click

from serai.cli.connection import connect
from serai.cli.traffic.asking import FILTER


class NoTerminalError(RuntimeError):
    """There is no screen to draw on."""


@click.command(short_help="Watch traffic as it goes, on the whole screen.")
@click.argument("scope", default="/")
@click.option(
    "--group",
    default="vm",
    show_default=True,
    help="What VMs are put together by: vm, tenant, scope, network, host or label:KEY.",
)
@click.option(
    "--last",
    "window",
    type=click.Choice(["1m", "10m", "1h", "1d"]),
    default="10m",
    show_default=True,
    help="What time is looked at.",
)
@FILTER
def watch(scope: str, group: str, window: str, narrowed: str) -> None:
    """Watch who sends most, which protocols are spoken and what is denied, in SCOPE; Enter looks closer, down to single records.

    It is asked again every two seconds. ? says which key does what.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminalError("there is no terminal to draw on: `serai top` and `serai flows --follow` print")
    # Slow to load: whoever asks for help, or completes a word, waits for none of it.
    from serai.cli.traffic.live.app import WatchApp  # noqa: PLC0415
    from serai.cli.traffic.live.way import Way  # noqa: PLC0415

    with connect() as client:
        WatchApp(client, Way(scope, group=group, window=window, narrowed=narrowed)).run()
