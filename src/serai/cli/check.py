"""``serai check``: do these files describe a world, and do its policies say what they say once and not too broadly?"""

from __future__ import annotations

import dataclasses
import sys

import click

from serai.cli.connection import AT, load_with_places
from serai.cli.findings import tell
from serai.cli.show import as_json, console, line
from serai.model.definitions import DefinitionErrors
from serai.model.world import World
from serai.policy.questions.hygiene import examine


@click.command(short_help="Check a directory of YAML files.")
@click.argument("directory", type=click.Path())
@click.option("--json", "json_", is_flag=True, help="Answer in JSON.")
@click.option("--strict", is_flag=True, help="Exit with 1 where there are findings, too.")
def check(directory: str, json_: bool, strict: bool) -> None:  # noqa: FBT001 (click calls it by name)
    """Check every resource in the YAML files of DIRECTORY, or those in force (@).

    All errors of all files come at once, one a line. Where there is none, findings are listed: rules that never
    decide, change nothing, say what others say, could be one, or accept too much.

    Exit status: 0 sound, whatever the findings (unless --strict), 1 errors, 2 nothing to check.
    """
    try:
        world, places = load_with_places(directory)
    except DefinitionErrors as errors:
        if json_:
            listed = [dataclasses.asdict(error) for error in errors.errors]
            as_json(console(), {"sound": False, "errors": listed})
        else:
            for error in errors.errors:
                line(console(stderr=True), str(error))
        sys.exit(1)
    findings = examine(world, places)
    if json_:
        listed = [dataclasses.asdict(finding) for finding in findings]
        as_json(console(), {"sound": True, "counts": counts(world), "findings": listed})
    else:
        line(console(), f"{'What is in force' if directory == AT else directory} is sound: {_summary(world)}.")
        if findings:
            tell(console(), findings)
    if strict and findings:
        sys.exit(1)


def counts(world: World) -> dict[str, int]:
    """Count what there is, by kind."""
    return {
        "hosts": len(world.hosts),
        "networks": len(world.networks),
        "vms": len(world.vms),
        "vnics": sum(len(vm.vnics) for vm in world.vms.values()),
        "policies": len(world.policies),
        "staged": sum(policy.staged for policy in world.policies),
        "rules": sum(len(rules) for policy in world.policies for rules in policy.rules.values()),
    }


def _summary(world: World) -> str:
    number = counts(world)
    parts = [
        _plural(number["hosts"], "host"),
        _plural(number["networks"], "network"),
        f"{_plural(number['vms'], 'VM')} with {_plural(number['vnics'], 'vNIC')}",
        f"{_plural(number['policies'], 'policy', 'policies')} ({number['staged']} staged)",
    ]
    return f"{', '.join(parts)} with {_plural(number['rules'], 'rule')}"


def _plural(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
