"""How flow rows are shown."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from serai.analysis.naming import NamedRow

_STYLES = {"accepted": "green", "denied": "red", "observed": "yellow"}


def flow_table(rows: Iterable[NamedRow]) -> Table:
    """Lay rows out for a person."""
    table = Table(box=None, pad_edge=False)
    for heading in ("FROM", "TO", "SERVICE", "SIDE", "PACKETS", "BYTES", "VERDICT", "RULE OR REASON"):
        right = heading in ("PACKETS", "BYTES")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            row.source, row.target, row.service, row.direction.value, str(row.packets), str(row.bytes),
            Text(row.outcome.value, _STYLES[row.outcome.value]),
            row.rule or row.reason.description,
        )  # fmt: skip
    return table
