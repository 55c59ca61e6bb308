"""What is wrong with a filter, and where."""

from __future__ import annotations

from typing import Final

_BEFORE: Final = 60
_BEHIND: Final = 40
"""How many characters of a long filter are shown on either side of the fault."""


class FilterError(ValueError):
    """The text is no filter; the error shows the spot and says what was expected there.

    For example::

        vm=web-1 and dprot=443
                     ^ there is no field 'dprot': did you mean 'dport'?
    """

    text: str
    """The filter, as it was written."""
    position: int
    """Where in it the fault is: characters before it."""
    message: str
    """What was expected, in one sentence."""

    def __init__(self, text: str, position: int, message: str) -> None:
        self.text, self.position, self.message = text, position, message
        super().__init__(text, position, message)

    def __str__(self) -> str:
        first, last = max(0, self.position - _BEFORE), self.position + _BEHIND
        shown = "".join(character if character.isprintable() else " " for character in self.text[first:last])
        before = "..." if first else ""
        behind = "..." if last < len(self.text) else ""
        return f"{before}{shown}{behind}\n{' ' * (len(before) + self.position - first)}^ {self.message}"


class NotKeptError(ValueError):
    """The filter asks for something that a table of long-term history does not keep."""

    field: str
    """Which field of the filter."""

    def __init__(self, field: str, detail: str = "") -> None:
        self.field = field
        super().__init__(f"long-term history does not keep {field!r}{detail}: only recent records can be asked for it")
