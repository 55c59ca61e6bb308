"""Records as lines of a table that fits where it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from serai.cli.traffic.figures import count, size
from serai.wire import flowapi

STYLES: Final = {"accepted": "green", "denied": "red", "observed": "yellow"}
"""Of verdicts."""
_HEADINGS: Final = ("TIME", "FROM", "TO", "SERVICE", "VERDICT", "PACKETS", "BYTES", "RULE OR REASON")
_LEAST: Final = (8, 12, 12, 8, 8, 7, 8, 0)
_MOST: Final = (19, 43, 43, 14, 8, 7, 8, 60)
_ENDS: Final = (1, 2)
_VERDICT: Final = 4
_FIGURES: Final = (5, 6)
_NARROW: Final = 100
"""A terminal on which every character counts."""
_LEAST_WHY: Final = 5
_WHY: Final = 12
"""Characters that the last column should have, where there is something to say."""


class Columns:
    """How wide each column is; what lies before stays the same when more records come."""

    def __init__(
        self,
        records: Iterable[flowapi.Record],
        width: int | None,
        *,
        dated: bool = False,
        styles: Mapping[str, str] = STYLES,
    ) -> None:
        """Make room for records.

        Args:
            records: some of those that will be shown; none: nobody knows how long names will be.
            width: of the terminal; None: it has no edge, and nothing is shortened.
            dated: they are of several days.
            styles: of verdicts.
        """
        self._styles = styles
        self._gap = 1 if width is not None and width < _NARROW else 2
        self._width, self._dated = width, dated
        rows = [_HEADINGS, *(self._cells(record) for record in records)]
        self._widths = [
            max(least, longest if width is None else min(most, longest))
            for longest, least, most in zip(
                (max(map(len, column)) for column in zip(*rows, strict=True)), _LEAST, _MOST, strict=True
            )
        ]
        if width is not None:
            if len(rows) == 1:
                self._widths = list(_MOST)
                self._widths[0] = _MOST[0] if dated else _LEAST[0]
            taken = (
                sum(self._widths[:-1]) + self._gap * (len(_HEADINGS) - 1) + max(_WHY, min(self._widths[-1], width // 5))
            )
            for _ in range(taken - width):
                wider = max(_ENDS, key=self._widths.__getitem__)
                self._widths[wider] = max(_LEAST[wider], self._widths[wider] - 1)

    def heading(self) -> str:
        """Return the line above all records."""
        *others, last = _HEADINGS
        line = self._line([*others, ""])
        room = len(last) if self._width is None else self._width - len(line)
        return f"{line}{last if room >= len(last) else 'WHY'}" if room >= _LEAST_WHY else line.rstrip()

    def row(self, record: flowapi.Record) -> Text:
        """Return the line of one record."""
        text = Text(self._line(self._cells(record)).rstrip())
        begin = sum(self._widths[:_VERDICT]) + self._gap * _VERDICT
        text.stylize(self._styles[record.verdict], begin, begin + self._widths[_VERDICT])
        return text

    def _cells(self, record: flowapi.Record) -> tuple[str, ...]:
        source, target = ends(record)
        return (
            clock(record.at, dated=self._dated), source, target, record.service, record.verdict,
            count(record.packets_out + record.packets_in), size(record.bytes_out + record.bytes_in), why(record),
        )  # fmt: skip

    def _line(self, cells: Sequence[str]) -> str:
        told = []
        for number, (cell, width) in enumerate(zip(cells[:-1], self._widths, strict=False)):
            fitted = cell if self._width is None else shortened(cell, width)
            told.append(fitted.rjust(width) if number in _FIGURES else fitted.ljust(width))
        line = (" " * self._gap).join([*told, ""])
        if self._width is None:
            return line + cells[-1]
        room = self._width - len(line)
        return line + (shortened(cells[-1], room) if room >= _LEAST_WHY else "")


def ends(record: flowapi.Record) -> tuple[str, str]:
    """Say who opened the conversation, and to whom: VMs by their paths, others by their addresses."""
    near = record.vm or record.local
    far = record.peer or record.remote
    return (near, far) if record.direction == "egress" else (far, near)


def why(record: flowapi.Record) -> str:
    """Say what decided, and what became of the first packet where that is worth a word."""
    decided = record.rule or ("" if record.reason == "none" else record.reason)
    notes = [note for note, is_so in (("no answer", record.unanswered), ("refused", record.refused)) if is_so]
    return "; ".join([decided, *notes] if decided else notes)


def shortened(text: str, width: int) -> str:
    """Shorten a path in its beginning: what tells one VM from another stands at its end."""
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def clock(at: datetime, *, dated: bool) -> str:
    """Write a time where the person at the terminal is."""
    local = at.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}" if dated else f"{local:%H:%M:%S}"
