"""How a relocation is followed: a bar and what is under way on a terminal, a line for each move elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from serai.cli.awaiting import AT_ONCE, patiently
from serai.cli.moves import INTERRUPTED, SAYS
from serai.cli.relocationshown import path, took
from serai.cli.show import console, line
from serai.wire.client import Client
from serai.wire.relocationapi import RelocatedVm, Relocation, RelocationShown

_PAUSE_SECONDS: Final = 0.2
"""How often it is asked at the most: more is more than anybody can look at."""
_MOST_ROWS: Final = 16
"""Moves that are shown one by one while they are under way."""
_BAR: Final = 40
"""Characters."""
_ENOUGH: Final = 3
"""So many moves say how long the others may take."""


def followed(to: Console, client: Client, name: str, *, quiet: bool) -> RelocationShown:
    """Follow a relocation to its end, and tell how it goes. Whoever interrupts that stops nothing."""
    first = patiently(lambda: client.ask("GET", path(name), RelocationShown))
    number = first.relocation.number
    try:
        last = _watched(to, client, first, quiet=quiet)
    except KeyboardInterrupt:
        line(
            console(stderr=True),
            f"The relocation goes on: `serai relocations show {number} --follow`, `serai relocations stop {number}`.",
        )
        sys.exit(INTERRUPTED)
    return patiently(lambda: client.ask("GET", path(last.relocation.id), RelocationShown))


def _watched(to: Console, client: Client, first: RelocationShown, *, quiet: bool) -> RelocationShown:
    watch = _Watch(to, first)
    last = first
    if quiet or not to.is_terminal:
        for last in _changes(client, first):
            if not quiet:
                watch.see(last)
                watch.tell()
        return last
    with Live(get_renderable=watch.drawn, console=to, transient=True, refresh_per_second=8) as live:
        for last in _changes(client, first):
            watch.see(last)
            live.refresh()  # else what is told would stand above what was
            watch.tell()
    return last


def _changes(client: Client, found: RelocationShown) -> Iterator[RelocationShown]:
    """Go through what becomes of a relocation; a controller may be away for a while."""
    yield found
    while found.relocation.ended is None:
        time.sleep(_PAUSE_SECONDS)
        params = {"seen": found.relocation.version, "timeout": AT_ONCE}
        where = path(found.relocation.id)
        found = patiently(lambda: client.ask("GET", where, RelocationShown, params=params, seconds=AT_ONCE + 30))  # noqa: B023 (asked at once)
        yield found


class _Watch:
    """Tells of each move that is over, and draws those that are not."""

    def __init__(self, to: Console, first: RelocationShown) -> None:
        self._to, self._now = to, first
        planned = [move for each in first.plan.rounds for move in each] if first.plan else []
        self._sources = {(move.vm, move.to): move.source for move in planned}
        """Moves that wait have none yet."""
        self._width = max((len(move.vm) for move in planned), default=0)
        self._told: set[int] = set()
        self._note = ""
        self._spinner = Spinner("dots", style="cyan")

    def see(self, now: RelocationShown) -> None:
        """Take note of what has become of it."""
        self._now = now

    def tell(self) -> None:
        """Tell what is new."""
        now = self._now
        began = now.relocation.asked
        for each in sorted((each for each in now.begun if each.ended), key=lambda each: each.ended or began):
            if each.number not in self._told:
                self._told.add(each.number)
                self._tell_move(each)
        note = now.relocation.why if now.relocation.ended is None else ""
        if note != self._note:
            self._note = note
            if note and not self._to.is_terminal:
                line(self._to, f"  it waits: {note}")

    def _tell_move(self, each: RelocatedVm) -> None:
        relocation = self._now.relocation
        at = ((each.ended or relocation.asked) - relocation.asked).total_seconds()
        place = f"{len(self._told):>{len(str(relocation.moves))}}/{relocation.moves}"
        made = each.state == "done"
        told = f"moved in {took(each):.1f} s" if made else f"aborted: {each.why}"
        line(
            self._to,
            Text.assemble(
                (f"  {at:7.1f} s  ", "dim"),
                ("✓ " if made else "✗ ", "green" if made else "red"),
                (f"{place}  ", "dim"),
                f"{each.vm:<{self._width}}  {self._way(each)}  ",
                (told, "" if made else "red"),
            ),
        )

    def _way(self, each: RelocatedVm) -> str:
        return f"{each.source or self._sources.get((each.vm, each.to), '…')} → {each.to}"

    def drawn(self) -> RenderableType:
        """Return what stands below: the bar, and what is under way."""
        relocation, now = self._now.relocation, datetime.now(UTC)
        counts = Text.assemble(
            (f"{relocation.done}", "bold green"), f" of {relocation.moves} done",
            ("  ·  ", "dim"), (f"{relocation.under_way}", "bold cyan"), " under way",
            ("  ·  ", "dim"), f"{relocation.waiting} waiting", *((("  ·  ", "dim"), (f"{relocation.aborted} aborted", "bold red")) if relocation.aborted else ()),
            ("  ·  ", "dim"), (_clock(relocation, now), "dim"),
        )  # fmt: skip
        width = max(10, min(_BAR, self._to.width - len(counts.plain) - 3))
        head = Table.grid(padding=(0, 2, 0, 0))
        style = "red" if relocation.aborted else "yellow" if relocation.stop else "cyan"
        bar = ProgressBar(
            total=relocation.moves, completed=relocation.done, width=width, complete_style=style, finished_style="green"
        )
        head.add_row(bar, counts)
        rows = [each for each in self._now.begun if each.ended is None]
        return Group(Text(""), head, *self._notes(relocation), self._under_way(rows, now))

    def _notes(self, relocation: Relocation) -> Iterator[Text]:
        if relocation.aborted:
            yield Text("a move has failed: those under way go on to their end, and no more begin", "red")
        elif relocation.stop:
            yield Text(f"{relocation.stop} has stopped it: those under way go on to their end", "yellow")
        elif relocation.why:
            yield Text(f"it waits: {relocation.why}", "yellow")

    def _under_way(self, rows: Sequence[RelocatedVm], now: datetime) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True)
        for each in rows[:_MOST_ROWS]:
            seconds = max(0.0, (now - each.asked).total_seconds())
            said = each.why or SAYS[each.state]
            told = Text.assemble(
                (str(each.state), "yellow" if each.state == "aborting" else "cyan"), (f"  {said}", "dim")
            )
            table.add_row(self._spinner, each.vm, self._way(each), Text(f"{seconds:.1f} s", "dim"), told)
        if len(rows) > _MOST_ROWS:
            table.add_row("", Text(f"and {len(rows) - _MOST_ROWS} more", "dim"))
        return table


def _clock(relocation: Relocation, now: datetime) -> str:
    """Say for how long it has been on, and how long it may take."""
    seconds = max(0.0, (now - relocation.asked).total_seconds())
    left = ""
    if relocation.done >= _ENOUGH and relocation.waiting and not (relocation.aborted or relocation.stop):
        left = f", about {_minutes(seconds / relocation.done * (relocation.waiting + relocation.under_way / 2))} left"
    return f"{_minutes(seconds)}{left}"


def _minutes(seconds: float) -> str:
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
