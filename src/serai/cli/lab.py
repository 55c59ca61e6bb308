"""``serai lab``: a virtual data center in a box, to see Serai at work on real guests."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from serai.cli.flows import flow_table
from serai.cli.narrate import Silent, Teller
from serai.cli.show import as_json, console, line
from serai.cli.status import add_gates, gate_table, status_fields
from serai.cli.steps import summary
from serai.lab.datacenter import DataCenter
from serai.lab.error import LabError
from serai.lab.policies import EXAMPLES
from serai.lab.preflight import find_problems
from serai.lab.state import LabState
from serai.lab.teardown import take_down
from serai.lab.tour.tour import run_tour
from serai.model.tenancy import is_name

_JSON = click.option("--json", "json_", is_flag=True, help="Answer in JSON.")


_INTERRUPTED = 130  # as a shell says of a command that Ctrl-C ended


@dataclasses.dataclass(frozen=True, slots=True)
class _Lab:
    """Which lab is meant: several may stand side by side."""

    name: str

    @property
    def state(self) -> Path:
        return Path("/run") / f"{self.name}-lab"

    def open(self) -> DataCenter:
        _check_machine()
        return DataCenter.open(self.state)


_LAB = click.make_pass_decorator(_Lab)


@click.group()
@click.option("--name", default="serai", show_default=True, help="Name of the lab; labs of other names do not mind.")
@click.pass_context
def lab(context: click.Context, name: str) -> None:
    """Run a virtual data center in a box: two hypervisor hosts and real guests."""
    if not is_name(name):
        raise LabError(f"{name!r} is no name for a lab: use lower-case letters, digits and '-'")
    context.obj = _Lab(name)


@lab.command()
@click.option("--policies", "source", type=click.Path(path_type=Path), default=EXAMPLES,
              help="Directory of the resources that describe it.  [default: the example]")  # fmt: skip
@_LAB
def up(which: _Lab, source: Path) -> None:
    """Bring the data center up: hosts, agents, policies, guests."""
    _check_machine()
    tell = _progress()
    state = LabState(which.state)
    if state.exists():
        if state.plan() is not None and which.open().is_whole():
            line(console(), "The lab is up already. See 'serai lab status', 'serai lab tour', 'serai lab down'.")
            return
        tell("an earlier lab is here but not whole: taking it down first")
        take_down(state, tell)
    try:
        DataCenter.plan(source, which.state, prefix=f"{which.name}-").up(source, tell)
    except KeyboardInterrupt:
        line(console(stderr=True), "Interrupted. What was made so far goes with 'serai lab down'.")
        sys.exit(_INTERRUPTED)
    line(console(), "The lab is up. Go on with 'serai lab tour'; take it away with 'serai lab down'.")


@lab.command()
@_LAB
def down(which: _Lab) -> None:
    """Take the data center away; nothing of it stays."""
    _check_machine()
    there = take_down(LabState(which.state), _progress())
    line(console(), "The lab is gone." if there else "There is no lab.")


@lab.command()
@_JSON
@_LAB
def status(which: _Lab, json_: bool) -> None:  # noqa: FBT001
    """Show hosts, guests and gates."""
    center = which.open()
    found, agents = center.status(), center.statuses()
    if json_:
        as_json(
            console(),
            {
                "hosts": [
                    {
                        "name": host.name, "libvirtd": host.libvirtd,
                        "agent": status_fields(reply) if (reply := agents[host.name]) else None,
                    }
                    for host in found.hosts
                ],
                "guests": [{"domain": g.domain, "host": g.host, "state": g.state} for g in found.guests],
                "policies": str(center.policies.path),
            },
        )  # fmt: skip
        return
    hosts = Table("HOST", "LIBVIRTD", "AGENT", "RULESET", box=None, pad_edge=False)
    gates = gate_table("HOST")
    for host in found.hosts:
        reply = agents[host.name]
        digest = (reply.digest or "none yet")[:12] if reply else "?"
        hosts.add_row(host.name, "up" if host.libvirtd else "down", "up" if reply else "down (gates go on)", digest)
        if reply:
            add_gates(gates, reply, host.name)
    guests = Table("GUEST", "HOST", "STATE", box=None, pad_edge=False)
    for guest in found.guests:
        guests.add_row(guest.domain, guest.host or "-", guest.state)
    for table in (hosts, guests, gates):
        console().print(table)
        line(console(), "")
    line(console(), f"Policies: {center.policies.path} (edit them, then 'serai lab apply')")


@lab.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@_LAB
def apply(which: _Lab, directory: Path | None) -> None:
    """Have the lab enforce the policies of DIRECTORY (or of its own directory, after you have edited it)."""
    center = which.open()
    if directory is not None:
        center.policies.copy_from(directory)
    center.policies.load()
    before = center.digests()
    applied = center.apply()
    line(console(), f"Revision {applied.revision} is in force: {summary(applied.steps)}.")
    for host, digest in center.digests().items():
        held = "already holds" if digest == before[host] else "now holds"
        line(console(), f"Host {host} {held} ruleset {digest[:12]}.")


@lab.command()
@_LAB
def env(which: _Lab) -> None:
    """Print what makes `serai` talk to the lab's controller: eval "$(serai lab env)"."""
    for name, value in which.open().controller.environment().items():
        line(console(), f"export {name}={shlex.quote(value)}")


@lab.command()
@_JSON
@_LAB
def flows(which: _Lab, json_: bool) -> None:  # noqa: FBT001
    """Show what the gates have counted."""
    center = which.open()
    rows = center.rows(center.policies.load())
    if json_:
        as_json(console(), [row.fields() for row in rows])
    else:
        console().print(flow_table(rows))


@lab.command()
@_JSON
@_LAB
def tour(which: _Lab, json_: bool) -> None:  # noqa: FBT001
    """Show what Serai does, step by step, and measure it. Exit status 1 where anything is not as it should be."""
    center = which.open()
    if not center.is_whole():
        raise LabError("the lab is not whole: bring it up again with 'serai lab up'")
    teller = Silent(console(stderr=True)) if json_ else Teller(console())
    findings = asyncio.run(run_tour(center, teller))
    if json_:
        as_json(console(), findings.fields())
    else:
        teller.end(good=findings.good)
        line(console(), f"Policies of the lab: {center.policies.path}. Edit them and run 'serai lab apply'.")
        line(
            console(),
            "Look around: 'serai lab status', and after 'eval \"$(serai lab env)\"' 'serai watch', 'serai moves'. Take it away: 'serai lab down'.",
        )
    sys.exit(0 if findings.good else 1)


def _check_machine() -> None:
    problems = find_problems()
    if problems:
        raise LabError("; ".join(problems))


def _progress() -> Callable[[str], None]:
    to, began = console(stderr=True), time.monotonic()

    def tell(text: str) -> None:
        line(to, f"{time.monotonic() - began:6.1f} s  {text}")

    return tell
