"""How flow rows are shown."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from serai.analysis.naming import HEADINGS, NamedRow

_STYLES = {"accepted": "green", "denied": "red", "observed": "yellow"}


def flow_table(rows: Iterable[NamedRow]) -> Table:
    """Lay rows out for a person."""
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in {"PACKETS", "BYTES"} else "left", overflow="fold")
    for row in rows:
        *facts, verdict, rule = row.cells()
        table.add_row(*facts, Text(verdict, _STYLES[row.outcome.value]), rule)
    return table
