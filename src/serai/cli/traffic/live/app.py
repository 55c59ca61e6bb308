"""The whole screen: lists, graphs and what happens when keys are pressed."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, ClassVar, Final, cast

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.message import Message
from textual.widgets import Footer, Input, Static

from serai.cli.traffic.figures import rate
from serai.cli.traffic.live.drawing import (
    denial_heading,
    denial_rows,
    line_heading,
    line_rows,
    record_rows,
)
from serai.cli.traffic.live.listing import Listing
from serai.cli.traffic.live.looks import BAD, CSS, DIM, GOOD, THEME, WARM
from serai.cli.traffic.live.panes import Details, Graphs, Head, Help
from serai.cli.traffic.live.place import GROUPS, WINDOWS, Place
from serai.cli.traffic.live.poller import SECONDS, Answer, Poller, passes
from serai.cli.traffic.live.question import Asks, Denial, Keys, Line, Question, Trial, View
from serai.wire import flowapi
from serai.wire.client import ClientError

_ASKING: Final = "Asking…"
_NOTHING: Final = "No traffic in this time."
_LOW: Final = 28
"""Lines from which the lower pane is as high as it likes."""
_STEPS: Final = 60


class Answered(Message):
    """The controller has answered, or has not."""

    def __init__(self, answer: Answer) -> None:
        """Tell what."""
        super().__init__()
        self.answer = answer


class WatchApp(App[None]):
    """Shows traffic as it goes, from all there is down to a record."""

    CSS = CSS
    TITLE = "serai watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("backspace,escape", "up", "Up", key_display="⌫"),
        Binding("g", "group", "Group"),
        Binding("t", "time", "Time"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("p", "pause", "Pause"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
    ]

    def __init__(
        self,
        client: Asks,
        *,
        scope: str = "/",
        group: str = "vm",
        window: str = "10m",
        narrowed: str = "",
        seconds: float = SECONDS,
    ) -> None:
        """Look at a scope.

        Args:
            client: asked in another thread, and nowhere else.
            scope: where to begin.
            group: ``vm``, ``tenant``, ``scope`` or ``label:KEY``.
            window: one of ``WINDOWS``.
            narrowed: a filter.
            seconds: between two answers.
        """
        super().__init__()
        self._way: list[Place] = [Place.at(scope)]
        self._groups = [*GROUPS] if group in GROUPS else [*GROUPS, group]
        self._group, self._window, self._narrowed = group, window, narrowed
        self._paused = False
        self._view: View | None = None
        self._heard: datetime | None = None
        self._poller = Poller(client, self._tell, seconds=seconds)

    def compose(self) -> ComposeResult:
        """Make all panes; which are seen depends on where one is."""
        yield Head(id="head")
        yield Static(id="trouble", markup=False)
        with Horizontal(id="upper"):
            yield Listing(id="lines", classes="pane", heading=self._heading)
            yield Graphs(id="graphs", classes="pane")
        yield Listing(id="lower", classes="pane", heading=denial_heading)
        yield Listing(id="records", classes="pane", heading=lambda _: "")
        yield Details(id="details", classes="pane", markup=False)
        with Vertical(id="entry"):
            yield Static(id="wrong", markup=False)
            yield Input(placeholder="filter: vm=web-1 and dport=443    (empty: everything; Esc: leave it)", id="filter")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to ask."""
        self.register_theme(THEME)
        self.theme = THEME.name
        self.query_one("#lower", Listing).border_title = "Denied of late"
        self.query_one("#details", Details).border_title = "The record"
        self.query_one("#lines", Listing).focus()
        self._poller.start()
        self._poller.once(Keys())
        self._look()

    def on_unmount(self) -> None:
        """Ask nothing more."""
        self._poller.stop()

    def on_resize(self, event: Resize) -> None:
        """Leave room for what matters on a small terminal."""
        self.screen.set_class(event.size.height < _LOW, "low")
        if self._view is not None:
            self.call_after_refresh(self._show)

    # Where one is

    @property
    def place(self) -> Place:
        """Where one is."""
        return self._way[-1]

    @property
    def question(self) -> Question:
        """What is asked for."""
        return Question(place=self.place, group=self._group, window=self._window, narrowed=self._narrowed, steps=_STEPS)

    def _look(self, prefer: object = None) -> None:
        """Look at where one is now: what was seen before is gone, and the answer comes soon."""
        self._view = None
        records = self.place.kind == "records"
        self.screen.set_class(records, "records")
        for name in ("#lines", "#lower", "#records"):
            self.query_one(name, Listing).forget(_ASKING)
        self.query_one("#graphs", Graphs).show(None, empty=_ASKING)
        self.query_one("#details", Details).show(None)
        lines = self.query_one("#records" if records else "#lines", Listing)
        if prefer is not None:
            lines.show((), empty=_ASKING, prefer=cast("Any", prefer))
        if not self.query_one("#entry").has_class("shown"):
            lines.focus()
        self._titles()
        self._head()
        self._poller.watch(self.question)

    def _titles(self) -> None:
        vm = self.place.kind == "vm"
        self.query_one("#lines", Listing).border_title = "Peers" if vm else f"Top senders by {self._group}"
        self.query_one("#graphs", Graphs).border_title = "Services" if vm else "Protocols"
        self.query_one("#records", Listing).border_title = "Records"

    def _heading(self, width: int) -> str:
        vm = self.place.kind == "vm"
        return line_heading(width, peers=vm, what="PEER" if vm else self._group.upper())

    # What comes in

    def _tell(self, answer: Answer) -> None:
        with contextlib.suppress(RuntimeError):  # the person has gone meanwhile
            self.post_message(Answered(answer))

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        answer = message.answer
        if answer.error is not None and not isinstance(answer.error, ClientError):
            raise answer.error
        match answer.question:
            case Keys():
                for key in cast("tuple[str, ...]", answer.found or ()):
                    if f"label:{key}" not in self._groups:
                        self._groups.append(f"label:{key}")
            case Trial(text=text):
                self._tried(text, answer.error)
            case question if question == self.question:
                if answer.error is None:
                    self._view, self._heard = cast("View", answer.found), answer.at
                    self._show()
                self._trouble(answer.error)
                self._head()
            case _:
                pass  # somebody looks elsewhere by now

    def _trouble(self, error: ClientError | None) -> None:
        pane = self.query_one("#trouble", Static)
        pane.set_class(error is not None, "shown")
        if error is None:
            return
        if passes(error):
            since = f" What is shown is from {self._heard.astimezone():%H:%M:%S}." if self._heard and self._view else ""
            pane.update(f"No answer: {error}. It is asked again and again.{since}")
        else:
            pane.update(str(error))
        if self._view is None:
            for name in ("#lines", "#lower", "#records"):
                self.query_one(name, Listing).show((), empty="No answer.")
            self.query_one("#graphs", Graphs).show(None, empty="No answer.")

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        if self.place.kind == "records":
            listing = self.query_one("#records", Listing)
            rows, columns = record_rows(view.records, max(40, listing.scrollable_content_region.width - 1))
            listing.show(rows, empty=_NOTHING, heading=lambda _: columns.heading())
            listing.border_subtitle = f"the latest {len(rows)}" if rows else ""
            return
        lines, lower = self.query_one("#lines", Listing), self.query_one("#lower", Listing)
        lines.show(line_rows(view), empty=_NOTHING)
        lines.border_subtitle = f"{rate(view.total, view.seconds)} in all" if view.lines else ""
        lower.show(denial_rows(view), empty="Nothing was denied in this time.")
        self.query_one("#graphs", Graphs).show(view.trend, empty=_NOTHING)

    def _head(self) -> None:
        state = ("● live", GOOD)
        if self.query_one("#trouble").has_class("shown"):
            state = ("○ no answer", BAD)
        elif self._paused:
            state = ("‖ paused", WARM)
        elif self._view is None:
            state = ("◌ asking", DIM)
        asked = [("last", self._window)]
        if self.place.kind == "group":
            asked.append(("by", self._group))
        if self._narrowed:
            asked.append(("filter", self._narrowed))
        self.query_one("#head", Head).show(
            [place.title for place in self._way], state, asked, self._view.completeness if self._view else None
        )

    # What keys do

    @on(Listing.Chosen)
    def _chosen(self, message: Listing.Chosen) -> None:
        about = message.row.about
        goes = about.goes if isinstance(about, Line | Denial) else None
        if goes is None:
            return
        self._way.append(goes)
        self._look()

    @on(Listing.Moved)
    def _moved(self, message: Listing.Moved) -> None:
        if message.listing.id == "records":
            about = message.row.about if message.row else None
            self.query_one("#details", Details).show(about if isinstance(about, flowapi.Record) else None)

    def action_up(self) -> None:
        """Leave the filter's line, or go back to where one was before."""
        if self.query_one("#entry").has_class("shown"):
            self._close_entry()
        elif len(self._way) > 1:
            left = self._way.pop()
            self._look(prefer=left)

    def action_group(self) -> None:
        """Put VMs together by something else."""
        self._group = _next(self._groups, self._group)
        if self.place.kind == "group":
            self._look()

    def action_time(self) -> None:
        """Look at another time."""
        self._window = _next([*WINDOWS], self._window)
        self._look()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._paused = not self._paused
        self._poller.pause(paused=self._paused)
        self._head()

    def action_filter(self) -> None:
        """Let somebody write a filter."""
        self.query_one("#entry").add_class("shown")
        entry = self.query_one("#filter", Input)
        entry.value = self._narrowed
        entry.focus()

    def action_help(self) -> None:
        """Say which key does what."""
        self.push_screen(Help())

    @on(Input.Submitted, "#filter")
    def _submitted(self, message: Input.Submitted) -> None:
        # Alone it is read first: a fault is then shown in the person's own words.
        self._poller.once(Trial(message.value.strip()))

    def _tried(self, text: str, error: ClientError | None) -> None:
        wrong = self.query_one("#wrong", Static)
        wrong.set_class(error is not None, "shown")
        if error is not None:
            wrong.update(str(error))
            return
        self._narrowed = text
        self._close_entry()
        self._look()

    def _close_entry(self) -> None:
        self.query_one("#entry").remove_class("shown")
        self.query_one("#wrong").remove_class("shown")
        self.query_one("#records" if self.place.kind == "records" else "#lines", Listing).focus()


def _next(words: list[str], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]
