"""``serai agent``: the part of Serai that runs on every hypervisor host."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click
import msgspec

from serai.agent.config import BPFFS, FILE, Config, Limits
from serai.agent.install import HOOK, hook_script, install_hook
from serai.agent.join import join
from serai.agent.main import main as run_agent
from serai.analysis.naming import named_rows
from serai.cli.duration import moment
from serai.cli.flows import flow_table
from serai.cli.registration import DESCRIBE_SECONDS, registration
from serai.cli.samples import sample_fields, sample_table
from serai.cli.show import as_json, console, line
from serai.cli.status import show_status, status_fields
from serai.datapath.preflight import require_ready
from serai.inventory.files import load
from serai.wire import local

_SOCKET = click.option(
    "--socket", "path", type=click.Path(path_type=Path), default=Path("/run/serai/agent.sock"),
    show_default=True, help="The agent's unix socket.",
)  # fmt: skip
_STATE = click.option(
    "--state", type=click.Path(path_type=Path), default=Path("/var/lib/serai"), show_default=True,
    help="Where the last good ruleset and the host's identity are kept.",
)  # fmt: skip
_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")


@click.group()
def agent() -> None:
    """Guard the virtual machines of this host."""


@agent.command()
@click.option("--host", default=socket.gethostname, help="This host's name.  [default: the machine's]")
@_SOCKET
@_STATE
@click.option("--bpffs", type=click.Path(path_type=Path), default=BPFFS, show_default=True,
              help="Where the gates are pinned: a directory on a bpffs.")  # fmt: skip
@click.option("--libvirt", default="qemu:///system", show_default=True, help="URI of this host's libvirt.")
@click.option("--config", "file", type=click.Path(path_type=Path), default=None,
              help=f"Limits of this host (TOML).  [default: {FILE}, where there is one]")  # fmt: skip
def run(  # noqa: PLR0917  # one argument an option
    host: str, path: Path, state: Path, bpffs: Path, libvirt: str, file: Path | None
) -> None:
    """Guard this host until told to stop. The gates stay and go on enforcing.

    What to enforce a controller tells, once the host has joined (`serai agent join`, at any time); until then, and with no ruleset kept
    from earlier, the gates of all taps are closed.
    """
    limits = Limits.read(file or FILE) if file or FILE.exists() else Limits()
    config = Config(host=host, socket=path, state=state, bpffs=bpffs, libvirt=libvirt, limits=limits)
    require_ready(config.bpffs)
    run_agent(config)


@agent.command("join")
@click.argument("url")
@click.option("--token", required=True, help="What `serai host token` printed.")
@click.option("--host", default=socket.gethostname, help="This host's name, as in the token.  [default: the machine's]")
@_STATE
def join_(url: str, token: str, host: str, state: Path) -> None:
    """Join the site of the controller at URL. An agent that runs goes on under its controllers, without a restart."""
    joined = join(url.rstrip("/"), token, state, host)
    line(
        console(),
        f"{joined.host} has joined; its certificate is renewed by itself, and good until {moment(joined.until)}.",
    )


@agent.command()
@_SOCKET
@_JSON
def status(path: Path, json_: bool) -> None:  # noqa: FBT001
    """Show this host's gates."""
    reply = local.ask(path, local.Status(), local.StatusReply)
    if json_:
        as_json(console(), status_fields(reply))
    else:
        show_status(console(), reply)


@agent.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_SOCKET
@_JSON
def flows(directory: Path, path: Path, json_: bool) -> None:  # noqa: FBT001
    """Show what this host's gates have counted, in the names of DIRECTORY."""
    reply = local.ask(path, local.Rows(), local.RowsReply)
    rows = named_rows(load(directory), {"": reply.rows}, reply.rules)
    if json_:
        as_json(console(), [row.fields() for row in rows])
    else:
        console().print(flow_table(rows))


@agent.command()
@_SOCKET
@_JSON
def drops(path: Path, json_: bool) -> None:  # noqa: FBT001
    """Show samples of the packets that this host's gates dropped of late: at most one a second of each kind."""
    reply = local.ask(path, local.Samples(), local.SamplesReply)
    if json_:
        as_json(console(), sample_fields(reply))
    else:
        console().print(sample_table(reply))


@agent.command()
@click.argument("domain")
@_SOCKET
@click.option("--libvirt", "uri", default="qemu:///system", show_default=True, help="URI of this host's libvirt.")
@_JSON
def describe(domain: str, path: Path, uri: str, json_: bool) -> None:  # noqa: FBT001
    """Write what DOMAIN boots from and is made of, to be registered.

    Its files are read, which takes as long as it does. What comes out is an Image for `serai apply`, and what is to stand in the VM.
    """
    from serai.inventory.libvirt import definition_of  # noqa: PLC0415  # slow to load, and of no use to other verbs

    asked = local.Describe(definition=definition_of(uri, domain))
    reply = local.ask(path, asked, local.DescribeReply, timeout_seconds=DESCRIBE_SECONDS)
    if json_:
        as_json(console(), msgspec.to_builtins(reply))
    else:
        line(console(), registration(domain, reply))


@agent.command()
@click.option("--install", is_flag=True, help=f"Write it to {HOOK}.")
def hook(install: bool) -> None:  # noqa: FBT001
    """Print the libvirt hook, which keeps VMs from starting without their gates, or install it."""
    if not install:
        sys.stdout.write(hook_script())
    elif install_hook():
        line(console(), f"The hook is in {HOOK}. Restart libvirtd once: it looks for hooks when it starts.")
    else:
        line(console(), f"The hook is in {HOOK} already.")
