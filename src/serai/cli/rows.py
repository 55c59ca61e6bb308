"""How rows of who can open what to whom are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serai.policy.names import Part, State
from serai.policy.rows import Row

_MOST_PARTS = 6
"""How many groups stand in one cell."""
_STATES = {State.BOTH: "", State.NEW: "new", State.GONE: "gone"}
_OPENED, _CLOSED = ("+", "green"), ("-", "red")


def row_table(rows: Iterable[Row], versions: Sequence[int]) -> Table:
    """Lay rows out for a person. What holds over all ``versions`` of IP says nothing of them."""
    table = _table()
    for row in rows:
        table.add_row(*_cells(row, versions))
    return table


def change_table(opened: Iterable[Row], closed: Iterable[Row], versions: Sequence[int]) -> Table:
    """Lay out what was opened and what was closed."""
    table = _table("")
    for (sign, style), rows in ((_OPENED, opened), (_CLOSED, closed)):
        for row in rows:
            table.add_row(Text(sign, style), *_cells(row, versions), style=style)
    return table


def row_fields(row: Row) -> dict[str, object]:
    """The same for a program, exactly."""
    return {
        "routingDomain": row.routing_domain,
        "from": [_part_fields(part) for part in row.source],
        "to": [_part_fields(part) for part in row.target],
        "ports": list(row.ports.texts(row.versions)),
        "except": list(row.ports.exceptions(row.versions)),
        "versions": list(row.versions),
    }


def in_table(to: Console, table: Table) -> None:
    """Print a table with no blanks at the ends of its lines."""
    with to.capture() as captured:
        to.print(table)
    for text in captured.get().splitlines():
        to.print(Text.from_ansi(text.rstrip()), soft_wrap=True)


def ports_text(row: Row) -> str:
    """Write the ports in one phrase."""
    but = row.ports.exceptions(row.versions)
    return ", ".join(row.ports.texts(row.versions)) + (f" except {', '.join(but)}" if but else "")


def _table(*first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in (*first, "FROM", "TO", "ON"):
        table.add_column(heading, overflow="fold")
    return table


def _cells(row: Row, versions: Sequence[int]) -> tuple[str, str, str]:
    over = "" if row.versions == tuple(versions) else f" over {' and '.join(f'IPv{v}' for v in row.versions)}"
    return _side(row.source), _side(row.target), ports_text(row) + over


def _side(parts: Sequence[Part]) -> str:
    shown = [_named(part) for part in parts[: _MOST_PARTS if len(parts) > _MOST_PARTS + 1 else None]]
    rest = len(parts) - len(shown)
    return "\n".join([*shown, *([f"and {rest} more"] if rest else [])])


def _named(part: Part) -> str:
    notes = [f"{len(part.vms)} VMs"] if len(part.vms) > 1 and part.name != "anybody" else []
    notes += [_STATES[part.state]] if _STATES[part.state] else []
    return f"{part.name} ({', '.join(notes)})" if notes else part.name


def _part_fields(part: Part) -> dict[str, object]:
    fields: dict[str, object] = {"name": part.name}
    if part.vms:
        fields |= {"vms": list(part.vms), "addresses": [str(address) for address in part.addresses]}
    if part.outside:
        fields["outside"] = [{"prefix": str(p), "except": [str(each) for each in but]} for p, but in part.outside]
    if part.vms:
        fields["state"] = part.state.value
    return fields
