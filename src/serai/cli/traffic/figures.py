"""How numbers about traffic are written: sizes, rates, counts, bars and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_UNITS: Final = ("", "k", "M", "G", "T", "P", "E")
_THOUSAND: Final = 1000
_WHOLE: Final = 100
_FEW: Final = 10


def count(number: float) -> str:
    """Write a number in at most five characters and a unit: ``12.3 k``."""
    unit = 0
    while abs(number) >= _THOUSAND - 0.5 and unit < len(_UNITS) - 1:
        number /= _THOUSAND
        unit += 1
    if unit == 0:
        return f"{number:.0f}"
    return f"{number:.0f} {_UNITS[unit]}" if number >= _WHOLE else f"{number:.1f} {_UNITS[unit]}"


def size(number: float) -> str:
    """Write bytes: ``1.2 MB``."""
    text = count(number)
    return f"{text}B" if " " in text else f"{text} B"


def rate(number: float, seconds: float) -> str:
    """Write bytes in a time as a rate: ``3.4 Mbit/s``."""
    text = count(8 * number / seconds if seconds else 0)
    return f"{text}bit/s" if " " in text else f"{text} bit/s"


def per_second(number: float, seconds: float) -> str:
    """Write how often something happened: ``0.3/s``, ``12.0 k/s``."""
    often = number / seconds if seconds else 0.0
    return f"{often:.1f}/s" if often < _FEW else f"{count(often)}/s"


def sparkline(values: Sequence[float], top: float | None = None) -> str:
    """Draw values as a line of blocks, a character each; ``top``: what the highest stands for. Nothing at all is a space."""
    most = top or max(values, default=0)
    return "".join(
        _BLOCKS[min(len(_BLOCKS) - 1, int(value / most * len(_BLOCKS)))] if value > 0 and most > 0 else " "
        for value in values
    )


def chart(values: Sequence[float], width: int, rows: int) -> list[str]:
    """Draw values as a graph of so many lines, the upper one first, stretched or pressed to a width; the highest fills it."""
    most = max(values, default=0)
    if most <= 0 or width <= 0:
        return [" " * width] * rows
    steps = len(_BLOCKS)
    heights = []
    for place in range(width):
        first = place * len(values) // width
        last = max(first + 1, (place + 1) * len(values) // width)
        value = max(values[first:last])
        # Whatever was there is seen, however little.
        heights.append(max(1, round(value / most * rows * steps)) if value > 0 else 0)
    return [
        "".join((" " + _BLOCKS)[max(0, min(steps, height - floor * steps))] for height in heights)
        for floor in reversed(range(rows))
    ]


def thin_bar(share: float, width: int) -> tuple[str, str]:
    """Draw a share (0 to 1) as a line of so many characters: what is full, and the rest."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return full, "━" * (width - len(full))


def bar(share: float, width: int) -> str:
    """Draw a share (0 to 1) as a bar of so many characters."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)
