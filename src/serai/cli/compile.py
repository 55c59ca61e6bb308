"""``serai compile``: what hosts would be told to enforce."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

import click
from rich.table import Table

from serai.cli.connection import load
from serai.cli.show import as_json, console, line
from serai.model.columns import Columns
from serai.model.ruleset import TABLES, HostRuleset
from serai.model.world import World
from serai.policy.compiler.datacenter import Compiler


class CompileError(ValueError):
    """The question makes no sense, or there is no place for the answer."""


@click.command("compile", short_help="Write the rulesets of hosts to a file.")
@click.argument("directory", type=click.Path())
@click.option("--out", "file", type=click.Path(path_type=Path), default=None, help="Where to write them.")
@click.option("--host", default=None, help="This host's ruleset only.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def compile_(directory: str, file: Path | None, host: str | None, json_: bool) -> None:  # noqa: FBT001
    """Compile the files of DIRECTORY, or what is in force (@), for the VMs that they place on hosts.

    With --host the file is that host's ruleset, as its agent is sent it; else a tar archive with HOST.ruleset for each. Equal
    files give equal bytes on every machine. Without --out nothing is written: sizes and digests are shown.

    Exit status: 0 compiled, 2 the files are wrong, or a host has no room for what it would have to hold.
    """
    world = load(directory)
    if host is not None and host not in world.hosts:
        raise CompileError(
            f"there is no host {host!r} in {directory}: its hosts are {', '.join(sorted(world.hosts)) or 'none'}"
        )
    rulesets = _rulesets(world, world.hosts if host is None else (host,))
    if file is not None:
        raw = rulesets[host].encode() if host is not None else _archive(rulesets)
        try:
            file.write_bytes(raw)
        except OSError as error:
            raise CompileError(f"{file} cannot be written: {error.strerror or error}") from error
    nowhere = sorted(path for path, vm in world.vms.items() if vm.host is None)
    if json_:
        as_json(
            console(),
            {"hosts": {name: _fields(ruleset) for name, ruleset in rulesets.items()}, "placed_nowhere": nowhere},
        )
        return
    table = Table(
        "HOST", "VMS", "VNICS", *(name.upper() for name in TABLES), "BYTES", "DIGEST", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, ruleset in rulesets.items():
        numbers = (_fields(ruleset)[field] for field in ("vms", "vnics", *TABLES, "bytes"))
        table.add_row(name, *map(str, numbers), ruleset.digest[:12])
    console().print(table)
    if nowhere:
        shown = ", ".join(nowhere[:3]) + (", ..." if len(nowhere) > 3 else "")  # noqa: PLR2004
        line(console(), f"{len(nowhere)} VMs are placed on no host, and in nobody's ruleset: {shown}.")
    if file is not None:
        line(console(), f"Written to {file}.")


def _rulesets(world: World, hosts: Collection[str]) -> dict[str, HostRuleset]:
    """Compile for some hosts; what others would have no room for does not matter then."""
    places = {path: (vm.host,) for path, vm in world.vms.items() if vm.host is not None and vm.host in hosts}
    compiler = Compiler.of(
        world.policies, Columns.of(world.vms.values()), places, last_word=world.last_word, quarantine=world.quarantine
    )  # fmt: skip
    return {host: compiler.ruleset(host) for host in sorted(hosts)}


def _archive(rulesets: Mapping[str, HostRuleset]) -> bytes:
    """Pack rulesets so that equal ones give equal bytes: no times, no owners."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for host, ruleset in rulesets.items():
            encoded = ruleset.encode()
            member = tarfile.TarInfo(f"{host}.ruleset")
            member.size, member.mode = len(encoded), 0o600
            archive.addfile(member, io.BytesIO(encoded))
    return raw.getvalue()


def _fields(ruleset: HostRuleset) -> dict[str, object]:
    return {
        "vms": len({vnic.path.rpartition("/")[0] for vnic in ruleset.vnics}),
        "vnics": len(ruleset.vnics),
        **{name: len(records) for name, records in ruleset.tables.items()},
        "bytes": len(ruleset.encode()),
        "digest": ruleset.digest,
    }
