"""``serai backup`` and ``serai restore``: all that a controller keeps, in one file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from serai.cli.controller import CONFIG
from serai.cli.show import console, line
from serai.controller import backup as archive
from serai.controller.config import FILE, Config


@click.command(short_help="Take all that a controller keeps away in a file.")
@click.argument("file", type=click.Path(path_type=Path))
@CONFIG
def backup(file: Path, config_file: Path | None) -> None:
    """Write the database, the site's keys and the settings to FILE. The controller may be at work meanwhile.

    FILE has the keys of the site in it, and is written for nobody else to read.
    """
    manifest = archive.backup(Config.read(config_file), file, datetime.now(UTC), config_file=config_file or FILE)
    line(console(), f"{file}: the database ({manifest.engine}) and {len(manifest.members) - 1} other files, as of now.")


@click.command(short_help="Bring back what a backup has taken away.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace what is there.")
@CONFIG
def restore(file: Path, force: bool, config_file: Path | None) -> None:  # noqa: FBT001 (click calls it by name)
    """Bring the database and the site's keys back from FILE, to where the settings say that they belong.

    All of FILE is looked at first; where anything is wrong, nothing is changed. Stop the controllers before. Hosts that have seen a later
    state notice: `serai audit verify` and /readyz say so.
    """
    manifest = archive.restore(Config.read(config_file), file, force=force)
    line(console(), f"Restored as of {manifest.made:%F %T} UTC. Start the controller.")
