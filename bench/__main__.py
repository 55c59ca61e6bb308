"""Runs the benchmarks by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import click
from rich.console import Console
from rich.table import Table

from bench import compile as compiler
from bench import control, flows, gate, lab, move, ovn, plan, testrun
from bench.metric import Metric

_BENCHMARKS: dict[str, Callable[[], Iterable[Metric]]] = {
    "compile": compiler.measure,
    "control": control.measure,
    "flows": flows.measure,
    "gate": gate.measure,
    "lab": lab.measure,
    "move": move.measure,
    "ovn": ovn.measure,
    "plan": plan.measure,
    "testrun": testrun.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(_BENCHMARKS)))
@click.option("--json", "json_", is_flag=True, help="Print one JSON object as the last line.")
def main(names: tuple[str, ...], *, json_: bool) -> None:
    """Measure the numbers that docs/SPECIFICATION.md promises (NAMES: which; none: all)."""
    metrics = [metric for name in names or sorted(_BENCHMARKS) for metric in _BENCHMARKS[name]()]
    table = Table("METRIC", "VALUE", "UNIT", "GOAL", "", box=None, pad_edge=False)
    for metric in metrics:
        table.add_row(*metric.row())
    Console(stderr=json_, highlight=False).print(table)
    if json_:
        print(json.dumps({metric.name: metric.fields() for metric in metrics}))


if __name__ == "__main__":
    main()
