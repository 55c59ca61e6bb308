"""How rows of who can open what to whom are shown: from the form that programs get (``policy/questions/form.py``)."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from serai.cli.show import line

_HEADINGS = ("FROM", "TO", "ON")
_GAP = 3
"""Blanks between two columns."""
_NARROWEST = 16
"""A column that no terminal makes narrower."""
_MOST_PARTS = 6
"""How many groups stand in one cell."""

Form = Mapping[str, Any]

_OPENED, _CLOSED = ("+", "green"), ("-", "red")


def show_rows(to: Console, rows: Iterable[Form], versions: Sequence[int]) -> None:
    """Lay rows out for a person. What holds over all ``versions`` of IP says nothing of them."""
    _show(to, [_Line(cells=_cells(row, versions)) for row in rows])


def show_changes(to: Console, opened: Iterable[Form], closed: Iterable[Form], versions: Sequence[int]) -> None:
    """Lay out what was opened and what was closed."""
    changes = ((_OPENED, opened), (_CLOSED, closed))
    _show(to, [_Line(sign, style, _cells(row, versions)) for (sign, style), rows in changes for row in rows])


def _ports(row: Form) -> str:
    but = f" except {', '.join(row['except'])}" if row["except"] else ""
    return ", ".join(row["ports"]) + but


_Cell = tuple[str, ...]
"""Texts that stand one below the other."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    sign: str = ""
    style: str = ""
    cells: tuple[_Cell, ...] = ()


def _show(to: Console, lines: Sequence[_Line]) -> None:
    """Print a table that is as wide as it must be, or else as the terminal is: cells are folded where words end."""
    heading = _Line(style="bold", cells=tuple((text,) for text in _HEADINGS))
    columns = zip(*(line.cells for line in (heading, *lines)), strict=True)
    margin = max((len(line.sign) for line in lines), default=0)
    margin += _GAP - 1 if margin else 0
    widths = [max(len(text) for cell in column for text in cell) for column in columns]
    while sum(widths) + margin + _GAP * (len(widths) - 1) > to.width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    for each in (heading, *lines):
        folded = [_folded(cell, width) for cell, width in zip(each.cells, widths, strict=True)]
        for number, texts in enumerate(itertools.zip_longest(*folded, fillvalue="")):
            begin = (each.sign if number == 0 else "").ljust(margin)
            padded = (text.ljust(width + _GAP) for text, width in zip(texts, widths, strict=True))
            line(to, (begin + "".join(padded)).rstrip(), style=each.style)


def _folded(cell: _Cell, width: int) -> list[str]:
    return [
        part for text in cell for part in textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _cells(row: Form, versions: Sequence[int]) -> tuple[_Cell, ...]:
    alike = list(row["versions"]) == list(versions)
    over = "" if alike else f" over {' and '.join(f'IPv{version}' for version in row['versions'])}"
    return _side(row["from"]), _side(row["to"]), (_ports(row) + over,)


def _side(parts: Sequence[Form]) -> _Cell:
    shown = [_named(part) for part in parts[: _MOST_PARTS if len(parts) > _MOST_PARTS + 1 else None]]
    rest = len(parts) - len(shown)
    return (*shown, *([f"and {rest} more"] if rest else []))


def _named(part: Form) -> str:
    vms = len(part.get("vms", ()))
    notes = [f"{vms} VMs"] if vms > 1 and part["name"] != "anybody" else []
    notes += [part["state"]] if "state" in part else []
    return f"{part['name']} ({', '.join(notes)})" if notes else part["name"]
