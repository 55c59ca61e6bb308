"""How the rows of the screen are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from rich.text import Text

from serai.cli.traffic.columns import Columns, clock, shortened
from serai.cli.traffic.figures import bar, count, rate
from serai.cli.traffic.live.listing import Row
from serai.cli.traffic.live.looks import BAD, BRIGHT, DIM, PLAIN, TRACK, VERDICTS
from serai.cli.traffic.live.question import Denial, Line, View
from serai.wire import flowapi

_RATE: Final = 12
_SERVICE: Final = 9
_LEAST_BAR: Final = 6
_MOST_BAR: Final = 28
_CLOCK: Final = 8
_COUNT: Final = 7
_WIDE: Final = 70
"""From here on there is room for words beside figures."""


def line_rows(view: View) -> list[Row]:
    """Write the largest groups, VMs, or peers."""
    most = max((line.bytes for line in view.lines), default=0)
    return [
        Row(key=(line.arrow, line.name, line.service, line.verdict), draw=partial(_line, line, most, view.seconds), about=line)
        for line in view.lines
    ]  # fmt: skip


def line_heading(width: int, *, peers: bool, what: str) -> str:
    """Write what stands in the columns of ``line_rows``."""
    name, drawn = _widths(width, peers=peers)
    service = f"{'SERVICE'.ljust(_SERVICE)} " if peers else ""
    return f"{what.ljust(name)} {service}{''.ljust(drawn)} {'RATE'.rjust(_RATE)}"


def denial_rows(view: View) -> list[Row]:
    """Write what was denied of late."""
    return [
        Row(key=(each.source, each.target, each.service, each.why), draw=partial(_denial, each), about=each)
        for each in view.denials
    ]


def denial_heading(width: int) -> str:
    """Write what stands in the columns of ``denial_rows``."""
    end = _end_width(width)
    return f"{'LAST'.ljust(_CLOCK)} {'FROM'.ljust(end)}   {'TO'.ljust(end)} {'SERVICE'.ljust(_SERVICE)} {'PACKETS'.rjust(_COUNT)}  WHY"


def record_rows(records: Sequence[flowapi.Record], width: int) -> tuple[list[Row], Columns]:
    """Write records, as ``serai flows`` does."""
    columns = Columns(records, width)
    return [
        Row(key=(each.at, each.vnic, each.local, each.remote, each.local_port, each.remote_port, each.service, each.verdict),
            draw=partial(_record, columns, each), about=each)
        for each in records
    ], columns  # fmt: skip


def _line(line: Line, most: int, seconds: float, width: int) -> Text:
    peers = bool(line.arrow)
    name, drawn = _widths(width, peers=peers)
    colour = VERDICTS[line.verdict]
    text = Text(end="", no_wrap=True)
    if peers:
        text.append(f"{line.arrow} ", colour)
    shown = shortened(line.name, name - (2 if peers else 0))
    text.append(shown.ljust(name - (2 if peers else 0)), BRIGHT if line.goes else PLAIN)
    if peers:
        text.append(f" {shortened(line.service, _SERVICE).ljust(_SERVICE)}", PLAIN)
    text.append(" ")
    text.append(bar(line.bytes / most if most else 0.0, drawn), f"{colour} on {TRACK}")
    if line.verdict == "accepted":
        text.append(f" {rate(line.bytes, seconds).rjust(_RATE)}", BRIGHT)
    else:
        text.append(f" {line.verdict} {count(line.packets)}".rjust(_RATE + 1)[: _RATE + 1], colour)
    return text


def _widths(width: int, *, peers: bool) -> tuple[int, int]:
    """Return how wide names and bars are."""
    left = width - _RATE - 2 - (_SERVICE + 1 if peers else 0)
    drawn = max(_LEAST_BAR, min(_MOST_BAR, left * 2 // 5 if not peers else left // 4))
    return max(1, left - drawn), drawn


def _denial(each: Denial, width: int) -> Text:
    end = _end_width(width)
    text = Text(end="", no_wrap=True)
    text.append(f"{clock(each.last, dated=False)} ", DIM)
    text.append(shortened(each.source, end).ljust(end), BRIGHT)
    text.append(" → ", BAD)
    text.append(shortened(each.target, end).ljust(end), BRIGHT)
    text.append(f" {shortened(each.service, _SERVICE).ljust(_SERVICE)}", PLAIN)
    text.append(f" {count(each.packets).rjust(_COUNT)}", BAD)
    text.append(f"  {each.why}", DIM)
    return text


def _end_width(width: int) -> int:
    left = width - _CLOCK - _SERVICE - _COUNT - 8
    return max(8, min(36, left * (37 if width >= _WIDE else 40) // 100))


def _record(columns: Columns, record: flowapi.Record, width: int) -> Text:
    del width
    text = columns.row(record)
    text.style = PLAIN
    text.end = ""
    return text
