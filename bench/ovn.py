"""Our compiler beside that of Open Virtual Network: the same tenants, vNICs, groups and rules, in the same run.

OVN is ovn-northd and the server that holds its result, for all hosts; ours makes the tables of all hosts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from bench import ovn_compile, ovn_packages
from bench.metric import Metric
from bench.missing import MissingError, check_memory
from bench.ours import COMMAND, told

PROMISED: Final = 64_000
"""The number of ports that is meant where a metric's name does not tell it."""

SIZES: Final = (16_000, PROMISED)

_RELEASES: Final = {"ovn": 0, "ovn_next": 1}
"""The columns of OVN, and how many releases of the system later each is from."""

_KINDS: Final = ("full", "edit", "move", "global")
_FIGURES: Final = {
    "full_cpu_s": "s",
    "full_wall_s": "s",
    **{f"{kind}_{what}_ms": "ms" for kind in _KINDS[1:] for what in ("cpu", "wall")},
    "rss_mb": "MiB",
}
"""What is measured in each column, and its unit."""

_COMPARED: Final = {"full": "full_cpu_s", **{kind: f"{kind}_cpu_ms" for kind in _KINDS[1:]}, "rss": "rss_mb"}
_PROMISES: Final = frozenset({"full", "edit", "rss"})

Figures = Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What one compiler needs."""

    figures: Figures
    missing: str = ""
    """Why there are no figures."""


def measure(*, sizes: Sequence[int] = SIZES, ours: Sequence[str] = COMMAND) -> Iterator[Metric]:
    """CPU time, time and memory of each compiler, and ours relative to OVN's."""
    for name, later in _RELEASES.items():
        column = _attempt(_version, later)
        value = column.figures.get("version")
        yield Metric(name=f"{name}.version", value=value, unit="year.month", missing=column.missing)
    for ports in sizes:
        columns = {name: _attempt(_ovn, later, ports) for name, later in _RELEASES.items()}
        columns["serai"] = _attempt(_ours, ports, ours)
        for name, column in columns.items():
            yield from _metrics(name, ports, column)
        yield from _ratios("ratio", ports, columns["serai"], columns["ovn"])
        yield from _ratios("ratio_next", ports, columns["serai"], columns["ovn_next"])


def _attempt(measured: Callable[..., Figures], *arguments: object) -> Column:
    try:
        return Column(figures=measured(*arguments))
    except MissingError as error:
        return Column(figures={}, missing=str(error))


def _version(later: int) -> Figures:
    return {"version": _programs(later).version()}


def _ovn(later: int, ports: int) -> Figures:
    check_memory()
    return ovn_compile.measure(_programs(later), ports)


def _programs(later: int) -> ovn_packages.Programs:
    releases = ovn_packages.releases()
    if not releases[later]:
        raise MissingError(f"which release comes after {releases[0]} is not known here")
    return ovn_packages.unpacked(releases[later])


def _ours(ports: int, command: Sequence[str]) -> Figures:
    return figures(told("--ports", str(ports), command=command))


def figures(printed: str) -> Figures:
    """What our compiler says of itself in its last line.

    Raises:
        MissingError: It is not an object with a number for each figure that must be there.

    """
    try:
        found = json.loads(printed.strip().splitlines()[-1])
        return {name: float(found[name]) for name in _FIGURES if name in found or name in _COMPARED.values()}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise MissingError(f"our compiler does not tell its figures: {error!r}") from error


def _metrics(name: str, ports: int, column: Column) -> Iterator[Metric]:
    for figure, unit in _FIGURES.items():
        value = column.figures.get(figure)
        missing = column.missing or ("not measured" if value is None else "")
        yield Metric(name=f"{name}.{_sized(figure, ports)}", value=value, unit=unit, missing=missing)


def _ratios(name: str, ports: int, ours: Column, theirs: Column) -> Iterator[Metric]:
    missing = "; ".join(filter(None, (theirs.missing, ours.missing)))
    for kind, figure in _COMPARED.items():
        value = None if missing else ours.figures[figure] / theirs.figures[figure]
        goal = 1 if name == "ratio" and kind in _PROMISES else None
        yield Metric(name=f"{name}.{_sized(kind, ports)}", value=value, unit="x OVN", goal=goal, missing=missing)


def _sized(figure: str, ports: int) -> str:
    """A figure's name with the number of ports behind its first word; memory at the promised size goes without."""
    first, *rest = figure.split("_")
    sized = () if (first, ports) == ("rss", PROMISED) else (str(ports),)
    return "_".join((first, *sized, *rest))
