"""Compiles one data center in a process of its own, and tells what it took: ``python -m bench.serai_compile --ports N``.

A process of its own, because memory that something else in it once had would count.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from serai.lab.scale import Scale, build
from serai.lab.trial import Taken, Trial

VNICS: Final = 10
"""Of each VM."""
TENANT_PORTS: Final = 40
"""With ``--ports``: vNICs of each tenant."""
HOST_PORTS: Final = 3200
_FEWEST_HOSTS: Final = 4
_MEBIBYTE: Final = 1 << 20


def scale(ports: int, *, tenants: int | None = None, shapes: bool = False) -> Scale:
    """A data center with so many vNICs."""
    hosts = max(_FEWEST_HOSTS, ports // HOST_PORTS)
    return Scale(
        hosts=hosts, vms=ports // hosts // VNICS, vnics=VNICS, tenants=tenants or ports // TENANT_PORTS, shapes=shapes
    )  # fmt: skip


@click.command()
@click.option("--ports", default=16_000, help="How many vNICs.")
@click.option("--tenants", default=None, type=int, help="How many tenants (one for 40 vNICs unless told).")
@click.option("--shapes", is_flag=True, help="Let every tenant's policies have a shape of their own.")
@click.option("--changes", default=100, help="How many single changes of a kind are tried.")
@click.option("--write", type=click.Path(path_type=Path), default=None, help="Write the largest ruleset to this file.")
def main(*, ports: int, tenants: int | None, shapes: bool, changes: int, write: Path | None) -> None:
    """Print one JSON object."""
    size = scale(ports, tenants=tenants, shapes=shapes)
    trial = Trial(size, build(size))
    outcome = trial.compile()
    if write is not None:
        write.write_bytes(trial.compiler.ruleset(outcome.largest).encode())
    kinds: dict[str, Callable[[], Taken]] = {"edit": trial.edit, "move": trial.move}
    taken = {kind: [change() for _ in range(changes)] for kind, change in kinds.items()} if changes else {}
    figures = {
        "full_cpu_s": outcome.taken.cpu_seconds,
        "full_wall_s": outcome.taken.seconds,
        "rss_mb": outcome.resident_bytes / _MEBIBYTE,
        "host_bytes": outcome.largest_bytes,
        "digest": outcome.digest,
    }
    for kind, several in taken.items():
        figures |= _changes(kind, several)
    if changes:
        figures |= _changes("global", [trial.rule_for_all()])
    print(json.dumps(figures))


def _changes(kind: str, several: Sequence[Taken]) -> dict[str, float]:
    walls = sorted(taken.seconds * 1e3 for taken in several)
    return {
        f"{kind}_cpu_ms": statistics.median(taken.cpu_seconds for taken in several) * 1e3,
        f"{kind}_wall_ms": statistics.median(walls),
        f"{kind}_p99_ms": walls[min(len(walls) - 1, len(walls) * 99 // 100)],
        f"{kind}_hosts": max(taken.hosts for taken in several),
    }


if __name__ == "__main__":
    main()
