"""How the rows of the screen are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from rich.text import Text

from serai.cli.traffic.columns import Columns, clock, shortened
from serai.cli.traffic.figures import count, rate, thin_bar
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
_NARROW: Final = 52
"""Here names need the room of bars."""
_GAPS: Final = 8
_LEAST_END: Final = 8


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
    service = f" {'SERVICE'.ljust(_SERVICE)}" if peers else ""
    room = " " * (drawn + 1 if drawn else 0)
    return f"{what.ljust(name)}{service}{room} {'RATE'.rjust(_RATE)}"


def denial_rows(view: View) -> list[Row]:
    """Write what was denied of late."""
    longest = longest_end(view)
    return [
        Row(key=(each.source, each.target, each.service, each.why), draw=partial(_denial, each, longest), about=each)
        for each in view.denials
    ]


def denial_heading(longest: int, width: int) -> str:
    """Write what stands in the columns of ``denial_rows``."""
    end = _end_width(longest, width)
    return f"{'LAST'.ljust(_CLOCK)} {'FROM'.ljust(end)}   {'TO'.ljust(end)} {'SERVICE'.ljust(_SERVICE)} {'PACKETS'.rjust(_COUNT)}  WHY"


def longest_end(view: View) -> int:
    """Return how long the longest name of an end is, of what was denied."""
    return max((len(end) for each in view.denials for end in (each.source, each.target)), default=0)


class Records:
    """Records, written as ``serai flows`` does, as wide as there is room."""

    def __init__(self, records: Sequence[flowapi.Record]) -> None:
        """Take those."""
        self._records = records
        self._columns: tuple[int, Columns] | None = None

    def rows(self) -> list[Row]:
        """Return the lines."""
        return [Row(key=_key(each), draw=partial(self._draw, each), about=each) for each in self._records]

    def heading(self, width: int) -> str:
        """Return what stands above them."""
        return self._fitting(width).heading()

    def _draw(self, record: flowapi.Record, width: int) -> Text:
        text = self._fitting(width).row(record)
        text.stylize_before(PLAIN)
        text.end = ""
        return text

    def _fitting(self, width: int) -> Columns:
        if self._columns is None or self._columns[0] != width:
            self._columns = width, Columns(self._records, width, styles=VERDICTS)
        return self._columns[1]


def _key(record: flowapi.Record) -> tuple[object, ...]:
    return (
        record.at, record.vnic, record.local, record.remote, record.local_port, record.remote_port, record.service, record.verdict,
    )  # fmt: skip


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
    if drawn:
        full, rest = thin_bar(line.bytes / most if most else 0.0, drawn)
        text.append(f" {full}", colour)
        text.append(rest, TRACK)
    if line.verdict == "accepted":
        text.append(f" {rate(line.bytes, seconds).rjust(_RATE)}", BRIGHT)
    else:
        text.append(f" {f'{count(line.packets)} {line.verdict}'.rjust(_RATE)}"[: _RATE + 3], colour)
    return text


def _widths(width: int, *, peers: bool) -> tuple[int, int]:
    """Return how wide names and bars are."""
    left = width - _RATE - 2 - (_SERVICE + 1 if peers else 0)
    if peers and width < _NARROW:
        return left + 1, 0
    drawn = max(_LEAST_BAR, min(_MOST_BAR, left * 2 // 5 if not peers else left // 4))
    return max(1, left - drawn), drawn


def _denial(each: Denial, longest: int, width: int) -> Text:
    end = _end_width(longest, width)
    text = Text(end="", no_wrap=True)
    text.append(f"{clock(each.last, dated=False)} ", DIM)
    text.append(shortened(each.source, end).ljust(end), BRIGHT)
    text.append(" → ", BAD)
    text.append(shortened(each.target, end).ljust(end), BRIGHT)
    text.append(f" {shortened(each.service, _SERVICE).ljust(_SERVICE)}", PLAIN)
    text.append(f" {count(each.packets).rjust(_COUNT)}  ", BAD)
    text.append(shortened(each.why, max(1, width - text.cell_len)), DIM)
    return text


def _end_width(longest: int, width: int) -> int:
    left = width - _CLOCK - _SERVICE - _COUNT - _GAPS
    return max(_LEAST_END, min(longest, left * 36 // 100))
