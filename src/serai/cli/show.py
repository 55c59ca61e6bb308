"""How answers reach the person or the program that asked."""

from __future__ import annotations

import json

from rich.console import Console
from rich.text import Text

_UNBOUNDED = 250


def console(*, stderr: bool = False) -> Console:
    """Return where to print: colour on a terminal only, and none where NO_COLOR is set."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:  # a pipe or a file has no edge to fold tables at
        made.width = _UNBOUNDED
    return made


def line(to: Console, text: str | Text, style: str = "") -> None:
    """Print one line as it is: what people grep and click on must not be wrapped."""
    to.print(text, style=style, soft_wrap=True)


def as_json(to: Console, value: object) -> None:
    """Print a value for a program to read."""
    to.print(json.dumps(value, indent=2), soft_wrap=True)
