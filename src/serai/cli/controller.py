"""``serai controller``: the part of Serai that knows policies and tells hosts."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from serai.controller.config import FILE, Config
from serai.controller.main import main as run_controller

CONFIG = click.option("--config", "config_file", type=click.Path(path_type=Path), default=None,
                      help=f"Settings (TOML).  [default: {FILE}, where there is one]")  # fmt: skip


@click.group()
def controller() -> None:
    """Compile policies for hosts, and answer people."""


@controller.command()
@CONFIG
@click.option("--listen-fd", "descriptor", type=click.IntRange(min=3), default=None, metavar="NUMBER",
              help="Answer people at this open socket too, which whoever starts the controller has made.")  # fmt: skip
def run(config_file: Path | None, descriptor: int | None) -> None:
    """Run a controller until told to stop. Hosts go on with what they hold.

    The first start makes the database, the site's keys and a token for whoever administers this machine; `serai status` uses it.
    """
    run_controller(Config.read(config_file), people=socket.socket(fileno=descriptor) if descriptor else None)
