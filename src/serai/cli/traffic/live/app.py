"""The whole screen: lists, graphs and what happens when keys are pressed."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from datetime import datetime
from functools import partial
from typing import ClassVar, Final, cast

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.events import Resize
from textual.message import Message
from textual.widgets import Footer, Input

from serai.cli.traffic.figures import count, rate
from serai.cli.traffic.live.drawing import (
    Records,
    denial_heading,
    denial_rows,
    line_heading,
    line_rows,
    longest_end,
)
from serai.cli.traffic.live.entry import Entry
from serai.cli.traffic.live.listing import Listing
from serai.cli.traffic.live.looks import BAD, CSS, DIM, GOOD, THEME, WARM
from serai.cli.traffic.live.panes import Details, Graphs, Head, Help, Trouble
from serai.cli.traffic.live.poller import SECONDS, Answer, Poller, passes
from serai.cli.traffic.live.question import Asks, Denial, Keys, Line, Trial, View
from serai.cli.traffic.live.way import Way
from serai.wire import flowapi
from serai.wire.client import ClientError

_ASKING: Final = "Asking…"
_NOTHING: Final = "No traffic in this time."
_LOW: Final = 28
"""Lines from which the lower pane is as high as it likes."""
_BESIDE_ENTRY: Final = frozenset({"up", "group", "time", "filter", "pause", "help"})


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

    def __init__(self, client: Asks, way: Way, *, seconds: float = SECONDS) -> None:
        """Look at where a way begins; ``client`` is asked in another thread, ``seconds`` after each answer again."""
        super().__init__()
        self._way, self._paused = way, False
        self._view: View | None = None
        self._heard: datetime | None = None
        self._error: ClientError | None = None
        self._poller = Poller(client, self._tell, seconds=seconds)

    def compose(self) -> ComposeResult:
        """Make all panes; which are seen depends on where one is."""
        yield Head(id="head")
        yield Trouble(id="trouble", markup=False)
        with Horizontal(id="upper"):
            yield Listing(id="lines", classes="pane", heading=self._heading)
            yield Graphs(id="graphs", classes="pane")
        yield Listing(id="lower", classes="pane", heading=partial(denial_heading, 0))
        yield Listing(id="records", classes="pane", heading=lambda _: "")
        yield Details(id="details", classes="pane", markup=False)
        yield Entry(id="entry")
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

    def _look(self, prefer: Hashable = None) -> None:
        """Look at where one is now: what was seen before is gone, and the answer comes soon."""
        self._view = None
        records = self._way.here.kind == "records"
        self.screen.set_class(records, "records")
        for name in ("#lines", "#lower", "#records"):
            self.query_one(name, Listing).forget(_ASKING)
        self.query_one("#graphs", Graphs).show(None, empty=_ASKING)
        self.query_one("#details", Details).show(None)
        lines = self.query_one("#records" if records else "#lines", Listing)
        if prefer is not None:
            lines.show((), empty=_ASKING, prefer=prefer)
        if not self.query_one(Entry).is_open:
            lines.focus()
        self._titles()
        self._head()
        self._poller.watch(self._way.question)

    def _titles(self) -> None:
        vm = self._way.here.kind == "vm"
        self.query_one("#lines", Listing).border_title = "Peers" if vm else f"Top senders by {self._way.group}"
        self.query_one("#graphs", Graphs).border_title = "Services" if vm else "Protocols"
        self.query_one("#records", Listing).border_title = "Records"

    def _heading(self, width: int) -> str:
        vm = self._way.here.kind == "vm"
        return line_heading(width, peers=vm, what="PEER" if vm else self._way.group.upper())

    # What comes in

    def _tell(self, answer: Answer) -> None:
        with contextlib.suppress(RuntimeError):  # the person has gone meanwhile
            self.post_message(Answered(answer))

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        with contextlib.suppress(NoMatches):  # the person has gone, and the panes are being taken away
            self._take_in(message.answer)

    def _take_in(self, answer: Answer) -> None:
        if answer.error is not None and not isinstance(answer.error, ClientError):
            raise answer.error
        match answer.question:
            case Keys():
                self._way.learn(cast("tuple[str, ...]", answer.found or ()))
            case Trial(text=text):
                self._tried(text, answer.error)
            case question if question == self._way.question:
                if answer.error is None:
                    self._view, self._heard = cast("View", answer.found), answer.at
                    self._show()
                self._trouble(answer.error)
                self._head()
            case _:
                pass  # somebody looks elsewhere by now

    def _trouble(self, error: ClientError | None) -> None:
        self._error = error
        self.query_one("#trouble", Trouble).show(error, self._heard if self._view else None)
        if error is not None and self._view is None:
            said = "No answer." if passes(error) else "Refused."
            for name in ("#lines", "#lower", "#records"):
                self.query_one(name, Listing).show((), empty=said)
            self.query_one("#graphs", Graphs).show(None, empty=said)

    def _show(self) -> None:
        view = self._view
        if view is None:
            return
        if self._way.here.kind == "records":
            listing = self.query_one("#records", Listing)
            records = Records(view.records)
            listing.show(records.rows(), empty=_NOTHING, heading=records.heading)
            listing.border_subtitle = f"the latest {len(view.records)}" if view.records else ""
            return
        lines, lower = self.query_one("#lines", Listing), self.query_one("#lower", Listing)
        lines.show(line_rows(view), empty=_NOTHING)
        lines.border_subtitle = f"{rate(view.total, view.seconds)} in all" if view.lines else ""
        lower.show(
            denial_rows(view),
            empty="Nothing was denied in this time.",
            heading=partial(denial_heading, longest_end(view)),
        )
        lower.border_subtitle = f"{count(view.denied)} packets in all" if view.denials else ""
        self.query_one("#graphs", Graphs).show(view.trend, empty=_NOTHING)

    def _head(self) -> None:
        state = ("● live", GOOD)
        if self._error is not None:
            state = ("○ no answer" if passes(self._error) else "○ refused", BAD)
        elif self._paused:
            state = ("‖ paused", WARM)
        elif self._view is None:
            state = ("◌ asking", DIM)
        asked = [("last", self._way.window)]
        if self._way.here.kind == "group":
            asked.append(("by", self._way.group))
        if self._way.narrowed:
            asked.append(("filter", self._way.narrowed))
        self.query_one("#head", Head).show(
            self._way.titles, state, asked, self._view.completeness if self._view else None
        )

    # What keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Say which keys there are: while a filter is written, those of its line only."""
        del parameters
        return action not in _BESIDE_ENTRY or not any(entry.is_open for entry in self.query(Entry))

    @on(Listing.Chosen)
    def _opened(self, message: Listing.Chosen) -> None:
        about = message.row.about
        goes = about.goes if isinstance(about, Line | Denial) else None
        if goes is None:
            return
        self._way.go(goes, message.row.key)
        self._look()

    @on(Listing.Moved)
    def _moved(self, message: Listing.Moved) -> None:
        if message.listing.id == "records":
            about = message.row.about if message.row else None
            self.query_one("#details", Details).show(about if isinstance(about, flowapi.Record) else None)

    def action_up(self) -> None:
        """Go back to where one was before."""
        line = self._way.back()
        if line is not None:
            self._look(prefer=line)

    def action_group(self) -> None:
        """Put VMs together by something else."""
        self._way.next_group()
        if self._way.here.kind == "group":
            self._look()

    def action_time(self) -> None:
        """Look at another time."""
        self._way.next_window()
        self._look()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._paused = not self._paused
        self._poller.pause(paused=self._paused)
        self._head()

    def action_filter(self) -> None:
        """Let somebody write a filter."""
        self.query_one(Entry).open(self._way.narrowed)
        self.refresh_bindings()

    def action_help(self) -> None:
        """Say which key does what."""
        self.push_screen(Help())

    @on(Input.Submitted, "#filter")
    def _submitted(self, message: Input.Submitted) -> None:
        # Alone it is read first: a fault is then shown in the person's own words.
        self._poller.once(Trial(message.value.strip()))

    def _tried(self, text: str, error: ClientError | None) -> None:
        if error is not None:
            self.query_one(Entry).complain(str(error))
            return
        self._way.narrowed = text
        self.action_leave()
        self._look()

    def action_leave(self) -> None:
        """Leave the filter as it was."""
        self.query_one(Entry).close()
        self.query_one("#records" if self._way.here.kind == "records" else "#lines", Listing).focus()
        self.refresh_bindings()
