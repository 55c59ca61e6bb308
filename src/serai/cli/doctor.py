"""``serai doctor``: what is wrong with this machine, and what to do about it."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from serai.agent import doctor as agent_doctor
from serai.agent.config import BPFFS
from serai.agent.config import Config as AgentConfig
from serai.cli.controller import CONFIG
from serai.cli.show import as_json, console
from serai.controller import doctor as controller_doctor
from serai.controller.config import FILE, Config
from serai.model.check import Check

_STATES = {True: ("ok", "green"), False: ("wrong", "red"), None: ("-", "yellow")}


@click.command(short_help="Say what is wrong with this machine, and what to do.")
@click.option("--only", type=click.Choice(["agent", "controller"]), help="Look at this part only.")
@CONFIG
@click.option("--state", type=click.Path(path_type=Path), default=Path("/var/lib/serai"), show_default=True,
              help="Where this host's identity and its last good ruleset are kept.")  # fmt: skip
@click.option("--socket", "path", type=click.Path(path_type=Path), default=Path("/run/serai/agent.sock"), show_default=True,
              help="The agent's unix socket.")  # fmt: skip
@click.option(
    "--bpffs", type=click.Path(path_type=Path), default=BPFFS, show_default=True, help="Where the gates are pinned."
)
@click.option("--libvirt", default="qemu:///system", show_default=True, help="URI of this host's libvirt.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def doctor(  # noqa: PLR0917  # one argument an option
    only: str | None,
    config_file: Path | None,
    state: Path,
    path: Path,
    bpffs: Path,
    libvirt: str,
    json_: bool,  # noqa: FBT001
) -> None:
    """Look at all that Serai needs on this machine. Nothing is changed.

    The controller is looked at where there is a controller.toml or a database; the agent, everywhere unless --only says otherwise.

    Exit status: 0 all is well, 1 something is wrong.
    """
    checks: list[Check] = []
    if only != "controller":
        config = AgentConfig(host=socket.gethostname(), socket=path, state=state, bpffs=bpffs, libvirt=libvirt)
        checks += agent_doctor.examine(config)
    if only == "controller" or (only is None and (config_file or FILE.exists() or (state / "serai.db").exists())):
        checks += asyncio.run(_controller(Config.read(config_file)))
    if json_:
        as_json(console(), [dataclasses.asdict(check) for check in checks])
    else:
        _tell(checks)
    sys.exit(1 if any(check.ok is False for check in checks) else 0)


async def _controller(config: Config) -> list[Check]:
    return [check async for check in controller_doctor.examine(config)]


def _tell(checks: list[Check]) -> None:
    table = Table("WHAT", "", "FINDING", "REMEDY", box=None, pad_edge=False)
    for check in checks:
        text, style = _STATES[check.ok]
        table.add_row(check.name, Text(text, style), check.finding, "" if check.ok else check.remedy)
    console().print(table)
