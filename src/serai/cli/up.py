"""``serai up``: all of Serai in one process, for one hypervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import click
import structlog

from serai import journal
from serai.access.decide import Caller
from serai.access.roles import Grant, Role
from serai.agent.config import BPFFS, Limits
from serai.agent.config import FILE as AGENT_FILE
from serai.agent.config import Config as AgentConfig
from serai.agent.identity import Identity
from serai.agent.join import join
from serai.agent.runtime import Runtime
from serai.cli.controller import CONFIG
from serai.controller.config import Config
from serai.controller.main import Running, controller
from serai.datapath.preflight import require_ready
from serai.inventory.files import read_directory
from serai.model.tenancy import ROOT
from serai.wire import api

_log = structlog.get_logger(__name__)

_ITSELF = Caller(name="serai", grants=(Grant(Role.SECURITY_ADMIN, ROOT),))
"""Who lets this host join, and puts the first policies into force."""


@click.command(short_help="Run all of Serai on this host.")
@click.option("--host", default=socket.gethostname, help="This host's name.  [default: the machine's]")
@CONFIG
@click.option("--agent-config", "agent_file", type=click.Path(path_type=Path), default=None,
              help=f"Limits of this host (TOML).  [default: {AGENT_FILE}, where there is one]")  # fmt: skip
@click.option("--state", type=click.Path(path_type=Path), default=Path("/var/lib/serai"), show_default=True,
              help="Where this host's identity and its last good ruleset are kept.")  # fmt: skip
@click.option(
    "--bpffs", type=click.Path(path_type=Path), default=BPFFS, show_default=True, help="Where the gates are pinned."
)
@click.option("--libvirt", default="qemu:///system", show_default=True, help="URI of this host's libvirt.")
@click.option("--policies", "directory", type=click.Path(path_type=Path), default=None,
              help="Put the files of this directory into force, where nothing is yet.")  # fmt: skip
def up(  # noqa: PLR0917  # one argument an option
    host: str,
    config_file: Path | None,
    agent_file: Path | None,
    state: Path,
    bpffs: Path,
    libvirt: str,
    directory: Path | None,
) -> None:
    """Run a controller, its database and this host's agent until told to stop. The gates stay and go on enforcing.

    The first start makes what is missing: the database, the site's keys, this host's identity, and a token for whoever administers
    this machine. In another terminal, `serai status` then tells how it is, and `serai apply DIRECTORY` puts policies into force.
    """
    journal.configure(os.environ)
    limits = Limits.read(agent_file or AGENT_FILE) if agent_file or AGENT_FILE.exists() else Limits()
    agent = AgentConfig(host=host, state=state, bpffs=bpffs, libvirt=libvirt, limits=limits)
    require_ready(agent.bpffs)
    first = dict(read_directory(directory)) if directory is not None else {}
    asyncio.run(_run(Config.read(config_file), agent, first))


async def _run(config: Config, agent: AgentConfig, first: dict[str, str]) -> None:
    running = asyncio.create_task(_both(config, agent, first))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        _log.info("serai stops; the gates stay")
    except BaseExceptionGroup as group:
        raise _first_of(group) from group


async def _both(config: Config, agent: AgentConfig, first: dict[str, str]) -> None:
    """Run both: what one of them fails of ends the other."""
    async with controller(config) as made:
        await _prepare(made, config, agent, first)
        await Runtime(agent).run()


async def _prepare(made: Running, config: Config, agent: AgentConfig, first: dict[str, str]) -> None:
    """Do what the first start has to do."""
    if first and await made.store.revisions.head() == 0:
        applied = await made.service.apply(_ITSELF, api.ChangeRequest(files=first, message="the first policies"))
        _log.info("policies are in force", revision=getattr(applied, "revision", 0))
    if not Identity(agent.state / "identity").joined:
        token = await made.hosts.token(_ITSELF, api.JoinTokenRequest(host=agent.host))
        await asyncio.to_thread(join, config.url, token.token, agent.state, agent.host)
        _log.info("this host has joined its own controller", host=agent.host)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
