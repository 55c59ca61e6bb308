"""What the screen has beside lists: its head, graphs, the details of a record, help."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from serai.cli.traffic.columns import ends, shortened, why
from serai.cli.traffic.figures import chart, count, rate, size
from serai.cli.traffic.live.looks import ACCENT, BAD, BRIGHT, DIM, LINES, PLAIN, VERDICTS, WARM
from serai.cli.traffic.live.poller import passes
from serai.wire import flowapi
from serai.wire.client import ClientError

_HIGHEST: Final = 6
_WHOLE: Final = 100.0
_FLAGS: Final = "FSRPAUEC"


class Head(Widget):
    """Where one is, and how complete what is told is."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # as Textual calls it
        """Say nothing yet."""
        super().__init__(id=id)
        self._first, self._second = (Text(), Text()), (Text(), Text())

    def show(
        self, path: list[str], state: tuple[str, str], asked: list[tuple[str, str]], found: flowapi.Completeness | None
    ) -> None:
        """Show the way to here, whether it goes on (a word and its colour), what is asked for, and how complete the answer is."""
        way = Text("serai ", f"bold {ACCENT}", no_wrap=True, overflow="ellipsis")
        for place, name in enumerate(path):
            way.append("▸ ", DIM)
            way.append(f"{name} ", f"bold {BRIGHT}" if place == len(path) - 1 else PLAIN)
        about = Text(no_wrap=True, overflow="ellipsis")
        for name, value in asked:
            about.append(f"{name} ", DIM)
            about.append(f"{value}   ", WARM if name == "filter" else PLAIN)
        complete = Text()
        if found is not None:
            whole = found.percent >= _WHOLE and not found.silent_hosts
            complete = Text(found.sentence(), DIM if whole else WARM)
        self._first, self._second = (way, Text(state[0], state[1])), (about, complete)
        self.refresh()

    def render(self) -> Text:
        """Write both lines."""
        return Text("\n").join(self._line(*line) for line in (self._first, self._second))

    def _line(self, left: Text, right: Text) -> Text:
        width = self.content_size.width
        left, right = left.copy(), right.copy()
        left.truncate(max(8, width - min(right.cell_len, width // 2) - 2), overflow="ellipsis")
        right.truncate(max(0, width - left.cell_len - 2), overflow="ellipsis")
        return left + Text(" " * max(1, width - left.cell_len - right.cell_len)) + right


class Graphs(Widget):
    """A graph for each protocol, or each service."""

    def __init__(self, *, id: str, classes: str) -> None:  # noqa: A002  # as Textual calls it
        """Draw nothing yet."""
        super().__init__(id=id, classes=classes)
        self._trend: flowapi.Trend | None = None
        self._empty = ""

    def show(self, trend: flowapi.Trend | None, *, empty: str) -> None:
        """Draw these; ``empty`` is said where there is nothing to draw."""
        self._trend, self._empty = trend, empty
        self.refresh()

    def render(self) -> Text:
        """Draw as many as there is room for."""
        width, height = self.content_size
        if self._trend is None or not self._trend.series:
            return Text(self._empty, DIM)
        trend = self._trend
        known = _known_steps(trend)
        shown = trend.series[: max(1, height // 2)]
        rows = max(1, min(_HIGHEST, height // len(shown) - 1))
        text = Text(no_wrap=True)
        for place, series in enumerate(shown):
            colour = LINES[place % len(LINES)]
            values = list(series.bytes)[:known] or [0]
            now = rate(values[-1], trend.step_seconds)
            most = f" ▲ {rate(max(values), trend.step_seconds)}"
            if len(series.name) + len(now) + len(most) >= width:
                most = ""
            name = shortened(series.name or "-", max(1, width - len(now) - len(most) - 1))
            text.append(name, f"bold {BRIGHT}")
            text.append(" " * max(1, width - len(name) - len(now) - len(most)))
            text.append(now, colour)
            text.append(f"{most}\n", DIM)
            for drawn in chart(values, width, rows):
                text.append(f"{drawn}\n", colour)
        return text


def _known_steps(trend: flowapi.Trend) -> int:
    """Return how many steps are told whole: the last ones would only seem to fall."""
    steps = max((len(series.bytes) for series in trend.series), default=0)
    until = trend.completeness.until
    if until is None:
        return steps
    return max(1, min(steps, int((until - trend.since).total_seconds() // trend.step_seconds)))


class Details(Static):
    """All that one record says."""

    def show(self, record: flowapi.Record | None) -> None:
        """Write it."""
        self.update(_details(record) if record else Text("No record is chosen.", DIM))


def _details(record: flowapi.Record) -> Text:
    source, target = ends(record)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(source, f"bold {BRIGHT}")
    text.append(" → ", DIM)
    text.append(target, f"bold {BRIGHT}")
    text.append(f"  {record.service}  ", PLAIN)
    text.append(record.verdict, f"bold {VERDICTS[record.verdict]}")
    if record.staged != record.verdict:
        text.append(f" (staged: {record.staged})", WARM)
    rows = [
        ("why", why(record) or "-"),
        ("seen by", f"{record.vnic}{record.host and f' on {record.host}'}, {record.direction}, network {record.network or '-'}"),
        ("addresses", f"{record.local} port {record.local_port} — {record.remote} port {record.remote_port}"),
        ("traffic", " — ".join([
            f"out {size(record.bytes_out)}, {count(record.packets_out)} packets{_flags(record.flags_out)}",
            f"in {size(record.bytes_in)}, {count(record.packets_in)} packets{_flags(record.flags_in)}",
        ])),
        ("time", f"{record.first.astimezone():%H:%M:%S} to {record.last.astimezone():%H:%M:%S}{_marks(record)}"),
        ("labels", f"{_labels(record.labels)} — {_labels(record.peer_labels)}"),
    ]  # fmt: skip
    for name, value in rows:
        text.append(f"\n{name:<10}", DIM)
        text.append(value, BAD if name == "why" and record.verdict == "denied" else PLAIN)
    return text


def _flags(bits: int) -> str:
    told = "".join(name for place, name in enumerate(_FLAGS) if bits >> place & 1)
    return f", flags {told}" if told else ""


def _marks(record: flowapi.Record) -> str:
    marks = [word for word, is_so in (("begins", record.begins), ("ends", record.ends)) if is_so]
    if record.rtt_us:
        marks.append(f"round trip {record.rtt_us / 1000:.1f} ms")
    if record.syn_repeats:
        marks.append(f"{record.syn_repeats} SYNs repeated")
    return "".join(f", {mark}" for mark in marks)


def _labels(labels: object) -> str:
    pairs = dict(labels) if isinstance(labels, dict) else {}
    return " ".join(f"{key}={value}" for key, value in sorted(pairs.items())) or "none"


class Trouble(Static):
    """Why there is no answer; seen while there is none."""

    def show(self, error: ClientError | None, heard: datetime | None) -> None:
        """Say what is wrong, and of when what is shown is; None: nothing is wrong, or nothing is shown."""
        self.set_class(error is not None, "shown")
        if error is None:
            return
        if not passes(error):
            self.update(str(error))
            return
        since = f" What is shown is from {heard.astimezone():%H:%M:%S}." if heard else ""
        self.update(f"No answer: {error}. It is asked again and again.{since}")


class Help(ModalScreen[None]):
    """Which key does what."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,backspace", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """Write it."""
        keys = (
            ("↑ ↓  PgUp PgDn", "move in a list; Tab goes to the next one"),
            ("Enter", "look closer: a group, a VM, a peer, its records"),
            ("Backspace  Esc", "go back up"),
            ("g", "put VMs together by tenant, scope or a label"),
            ("t", "look at another time: 1m, 10m, 1h, 1d"),
            ("/", "narrow down by a filter (docs/FLOWS.md)"),
            ("p", "pause, and go on"),
            ("q", "quit"),
        )
        text = Text()
        for key, does in keys:
            text.append(f"{key:<17}", f"bold {ACCENT}")
            text.append(f"{does}\n", PLAIN)
        text.append(
            "\nRates are means over the time that is looked at. A graph is as high\nas its highest step (▲).", DIM
        )
        box = Static(text)
        box.border_title = "Keys"
        yield box
