"""How the tour is told at a terminal."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serai.cli.show import line

_WIDTH = 100


class Teller:
    """Tells everything."""

    def __init__(self, to: Console) -> None:
        """Print to ``to``."""
        self._to = to
        self._chapters = 0

    def chapter(self, title: str, text: str) -> None:
        """Begin a step."""
        letter = "abcdefghij"[self._chapters]
        self._chapters += 1
        line(self._to, "")
        line(self._to, f"({letter}) {title}", style="bold")
        self.say(text)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show a spinner on a terminal, a line elsewhere."""
        began = time.monotonic()
        if self._to.is_terminal:
            with self._to.status(text + " ..."):
                yield
        else:
            yield
        self.say(f"{text}: {time.monotonic() - began:.1f} s.")

    def say(self, text: str) -> None:
        """Tell something."""
        line(self._to, textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    "))

    def found(self, text: str, *, good: bool) -> None:
        """Tell what was measured."""
        mark = Text(" ok ", "bold green") if good else Text("FAIL", "bold red")
        wrapped = textwrap.fill(text, _WIDTH - 6, subsequent_indent="     ")
        line(self._to, Text.assemble(mark, " ", wrapped))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        table = Table(box=None, pad_edge=False)
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._to.print(Padding(table, (0, 0, 1, 4), expand=False))

    def end(self, *, good: bool) -> None:
        """Say how it all went."""
        line(self._to, "")
        self.found("The tour is over: everything is as it should be." if good
                   else "The tour is over: not everything is as it should be (see FAIL above).", good=good)  # fmt: skip


class Silent(Teller):
    """Tells only what is not as it should be: for programs."""

    def chapter(self, title: str, text: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Say nothing."""

    def found(self, text: str, *, good: bool) -> None:
        """Tell what went wrong."""
        if not good:
            super().found(text, good=good)
