"""A list with a cursor that stays on the same thing while the list changes below it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from serai.cli.traffic.live.looks import ACCENT, DIM

_HEADING = 1
_MARGINS = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line."""

    key: Hashable
    """What it is about: where it goes, the cursor goes."""
    draw: Callable[[int], Text]
    """Writes it, so wide."""
    about: object = None
    """For whoever hears that it was chosen."""


class Listing(ScrollView, can_focus=True):
    """Rows below a heading."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"listing--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "Open"),
    ]

    class Chosen(Message):
        """Somebody wants to know more about a row."""

        def __init__(self, listing: Listing, row: Row) -> None:
            """Tell whose row it is."""
            super().__init__()
            self.listing, self.row = listing, row

    class Moved(Message):
        """The cursor is on another row, or its row says something else."""

        def __init__(self, listing: Listing, row: Row | None) -> None:
            """Tell whose row it is; None: there is none."""
            super().__init__()
            self.listing, self.row = listing, row

    def __init__(self, *, heading: Callable[[int], str], id: str, classes: str) -> None:  # noqa: A002  # as Textual calls it
        """Begin with nothing."""
        super().__init__(id=id, classes=classes)
        self._heading = heading
        self._rows: Sequence[Row] = ()
        self._cursor = 0
        self._wanted: Hashable = None
        self._empty = ""

    @property
    def row(self) -> Row | None:
        """Where the cursor is."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def rows(self) -> Sequence[Row]:
        """All of them."""
        return self._rows

    def show(
        self, rows: Sequence[Row], *, empty: str, heading: Callable[[int], str] | None = None, prefer: Hashable = None
    ) -> None:
        """Show these rows.

        Args:
            rows: from above to below.
            empty: said where there is none.
            heading: another one.
            prefer: the key of the row that the cursor should go to, as soon as there is one.
        """
        if prefer is not None:
            self._wanted = prefer
        kept = self._wanted if self._wanted is not None else (self.row.key if self.row else None)
        self._rows, self._empty = rows, empty
        self._heading = heading or self._heading
        at = next((place for place, row in enumerate(rows) if row.key == kept), None)
        if at is not None:
            self._wanted = None
        self._cursor = at if at is not None else max(0, min(self._cursor, len(rows) - 1))
        self.virtual_size = Size(self.size.width, len(rows) + _HEADING)
        self._reveal()
        self.refresh()
        self.post_message(self.Moved(self, self.row))

    def forget(self, empty: str) -> None:
        """Show nothing, and begin at the first row again."""
        self._wanted, self._rows, self._cursor = None, (), 0
        self.show((), empty=empty)
        self.scroll_to(y=0, animate=False)

    def on_resize(self) -> None:
        """Take the width as it is."""
        self.virtual_size = Size(self.size.width, len(self._rows) + _HEADING)

    def render_line(self, y: int) -> Strip:
        """Write one line of what is to be seen."""
        width, plain = self.scrollable_content_region.width, self.rich_style
        if y == 0:
            return self._strip(Text.assemble((f" {self._heading(width - _MARGINS)}", DIM)), width, plain)
        place = y - _HEADING + round(self.scroll_y)
        if place >= len(self._rows):
            said = self._empty if not self._rows and place == 0 else ""
            return self._strip(Text.assemble((f" {said}", DIM)), width, plain)
        cursor = place == self._cursor and self.has_focus
        text = Text.assemble(("▌" if cursor else " ", ACCENT), self._rows[place].draw(width - _MARGINS))
        return self._strip(text, width, self.get_component_rich_style("listing--cursor") if cursor else plain)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self._rows:
            self._cursor = max(0, min(len(self._rows) - 1, self._cursor + by))
            self._wanted = None
            self._reveal()
            self.refresh()
            self.post_message(self.Moved(self, self.row))

    def action_page(self, by: int) -> None:
        """Move the cursor by what is to be seen at once."""
        self.action_move(by * max(1, self.size.height - _HEADING - 1))

    def action_choose(self) -> None:
        """Say that somebody wants to know more."""
        if self.row is not None:
            self.post_message(self.Chosen(self, self.row))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to where somebody clicked, and open what it is on already."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < _HEADING:
            return
        place = offset.y - _HEADING + round(self.scroll_y)
        if place < len(self._rows):
            again = place == self._cursor and event.chain > 1
            self.action_move(place - self._cursor)
            if again:
                self.action_choose()

    def _strip(self, text: Text, width: int, style: Style) -> Strip:
        strip = Strip(text.render(self.app.console))
        return strip.crop(0, width).extend_cell_length(width).apply_style(style)

    def _reveal(self) -> None:
        # The heading stands still, and takes a line from what is scrolled.
        height = max(1, self.size.height - _HEADING)
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False)
