"""Whoever tells the tour to a person."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Narrator(Protocol):
    """Tells what happens, in plain sentences."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a step: what is going to be shown."""

    def working(self, text: str) -> AbstractContextManager[None]:
        """Show that something takes a while, for as long as the block runs."""

    def say(self, text: str) -> None:
        """Tell something."""

    def found(self, text: str, *, good: bool) -> None:
        """Tell what was measured, and whether it is as it should be."""

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
