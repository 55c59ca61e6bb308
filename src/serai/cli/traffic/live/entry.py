"""Where a filter is written."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static


class Entry(Vertical):
    """A line for a filter, and above it what is wrong with it."""

    def compose(self) -> ComposeResult:
        """Make both."""
        yield Static(id="wrong", markup=False)
        yield _Line(placeholder="a filter, such as vm=web-1 and dport=443; none: everything", id="filter")

    @property
    def is_open(self) -> bool:
        """Somebody writes."""
        return self.has_class("shown")

    def open(self, text: str) -> None:
        """Let somebody change a filter."""
        self.add_class("shown")
        line = self.query_one(_Line)
        line.value = text
        line.focus()

    def complain(self, text: str) -> None:
        """Say what is wrong; nothing: say nothing."""
        self.query_one("#wrong", Static).set_class(bool(text), "shown").update(text)

    def close(self) -> None:
        """Be seen no longer."""
        self.remove_class("shown")
        self.complain("")


class _Line(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Use it"),
        Binding("escape", "app.leave", "Leave it"),
    ]
