"""``serai scale``: a data center on paper, compiled here and now."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from serai.cli.show import as_json, console, line
from serai.lab.scale import Scale, ScaleError, build
from serai.lab.trial import Taken, Trial

_MEGABYTE = 1e6
_GIGABYTE = 1e9


@click.command(short_help="Compile a data center on paper, of any size.")
@click.option("--hosts", default=512, show_default=True, help="Hypervisors.")
@click.option("--vms", default=320, show_default=True, help="VMs on each host.")
@click.option("--vnics", default=10, show_default=True, help="vNICs of each VM.")
@click.option(
    "--tenants", default=40_000, show_default=True, help="Tenants, each with a network and policies of its own."
)
@click.option(
    "--seed", default=1, show_default=True, help="Where VMs are placed, and what is changed, follows from this."
)
@click.option("--shapes", is_flag=True, help="Let every tenant's policies differ in more than names and addresses.")
@click.option("--changes", default=100, show_default=True, help="How many single edits and moves are tried afterwards.")
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
def scale(  # noqa: PLR0917  # one argument an option
    hosts: int,
    vms: int,
    vnics: int,
    tenants: int,
    seed: int,
    shapes: bool,  # noqa: FBT001
    changes: int,
    json_: bool,  # noqa: FBT001
) -> None:
    """Build a data center in memory, compile it to a ruleset for every host, and change things in it.

    Nothing is sent anywhere: this shows what the compiler can do on this machine, and what it needs for it. Every tenant has
    web, app, db and management VMs on hosts all over, and eight rules; the provider has four rules for all.
    """
    if changes < 0:
        raise ScaleError(f"{changes} changes cannot be tried: take a number from 0 on")
    size = Scale(hosts=hosts, vms=vms, vnics=vnics, tenants=tenants, seed=seed, shapes=shapes)
    out = console(stderr=json_)
    with out.status("Building the data center ..."):
        center = build(size)
    trial = Trial(size, center)
    with _bar(out) as bar:
        task = bar.add_task("Compiling tenants", total=tenants)
        outcome = trial.compile(lambda done: bar.advance(task, done))
    edits, moves = (_several(out, what, changes, each) for what, each in (("edits", trial.edit), ("moves", trial.move)))
    with out.status("Adding a rule for everybody ..."):
        everybody = trial.rule_for_all()
    if json_:
        as_json(
            console(),
            {
                **dataclasses.asdict(size),
                "vnics_in_all": hosts * vms * vnics,
                "policies": len(center.policies),
                "full": dataclasses.asdict(outcome),
                "edit": _fields(edits),
                "move": _fields(moves),
                "rule_for_all": dataclasses.asdict(everybody),
            },
        )
        return
    rules = sum(len(side) for policy in center.policies for side in policy.rules.values())
    line(
        out,
        f"{hosts * vms * vnics:,} vNICs of {tenants:,} tenants on {hosts:,} hosts, under {len(center.policies):,} policies with {rules:,} rules.",
    )
    line(
        out,
        f"  Compiled     {outcome.taken.seconds:8.2f} s    {outcome.taken.hosts:,} rulesets, {outcome.resident_bytes / _GIGABYTE:.1f} GB of memory",
    )
    for what, taken in (("One edit", edits), ("One move", moves)):
        if taken:
            line(
                out,
                f"  {what:12} {_median(taken):8.2f} ms   (99 of 100: {_percentile(taken):.2f} ms), changes {_hosts(taken)}",
            )
    line(out, f"  Rule for all {everybody.seconds:8.2f} s    changes {everybody.hosts:,} hosts")
    line(
        out,
        f"  The largest ruleset has {outcome.largest_bytes / _MEGABYTE:.1f} MB ({outcome.largest}). Digest of all: {outcome.digest[:12]}.",
    )


def _bar(out: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, transient=True, disable=not out.is_terminal)


def _several(out: Console, what: str, count: int, each: Callable[[], Taken]) -> list[Taken]:
    with out.status(f"Trying {count} {what} ..."):
        return [each() for _ in range(count)]


def _fields(taken: list[Taken]) -> dict[str, float | int] | None:
    if not taken:
        return None
    return {"count": len(taken), "median_ms": _median(taken), "p99_ms": _percentile(taken)}


def _median(taken: list[Taken]) -> float:
    return statistics.median(each.seconds for each in taken) * 1e3


def _percentile(taken: list[Taken]) -> float:
    """What 99 of 100 take at the most."""
    ordered = sorted(each.seconds for each in taken)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3


def _hosts(taken: list[Taken]) -> str:
    few, many = min(each.hosts for each in taken), max(each.hosts for each in taken)
    number = str(many) if few == many else f"{few} to {many}"
    return f"{number} host{'' if many == 1 else 's'}"
