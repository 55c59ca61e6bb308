"""Lays decision lists out in pages, as gates read them: what is called by number comes in as a place in a list of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from serai.model.form import NOTHING, WORD, Form, Place
from serai.model.policy import RuleRef
from serai.model.records import DECISION, INTERVALS, PAGE, Step
from serai.policy.flatten import DecisionList, Interval

_PAGE_WORDS: Final = PAGE.itemsize // WORD
_FIRST: Final = 16
"""Where the start of interval 1 stands is two bytes behind this."""
_DECISIONS: Final = 32
_DESCEND: Final = bytes((Step.DESCEND, Step.DESCEND))


def _blank() -> bytes:
    page = np.zeros(1, PAGE)
    page["first"] = 65535  # where nothing starts: the gate counts on it
    return page.tobytes()


_BLANK: Final = _blank()

_Entry = tuple[int, Place, Place, bytes]
"""Where an interval of a page starts; its rule, staged rule, and the steps of both."""

_Page = tuple[Place, int, Sequence[_Entry]]
"""What the page is called by, its protocol, its entries."""

_SEPARATOR: Final = b"\xff" * 8
"""No port, with two steps, reads like this."""


class Sheet:
    """Pages in the making, with places for numbers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._text: list[bytes] = []
        self._gaps: list[tuple[int, Place]] = []

    def write(self, pages: Iterable[_Page]) -> None:
        """Write ``pages`` down behind those that are there."""
        for name, protocol, entries in pages:
            row = len(self._text) * _PAGE_WORDS
            raw = bytearray(_BLANK)
            raw[8:12] = protocol.to_bytes(4, "little")
            raw[16] = len(entries)
            self._gaps.append((row, name))
            for at, (first, rule, staged, steps) in enumerate(entries):
                if at:
                    raw[_FIRST + 2 * at : _FIRST + 2 * at + 2] = first.to_bytes(2, "little")
                begin = _DECISIONS + at * DECISION.itemsize
                raw[begin + 2 * WORD : begin + 2 * WORD + 2] = steps
                self._gaps += ((row + begin // WORD, rule), (row + begin // WORD + 1, staged))
            self._text.append(bytes(raw))

    def form(self) -> Form:
        """Return what was written."""
        return Form.of(b"".join(self._text), self._gaps)


def spelled(decisions: DecisionList, place_of: Callable[[RuleRef], Place]) -> tuple[bytes | Place, ...]:
    """Write down what a decision list says, with places for its rules: what its number is made of."""
    parts: list[bytes | Place] = []
    for protocol in sorted(decisions):
        parts.append(_SEPARATOR + protocol.to_bytes(8, "little"))
        for interval in decisions[protocol]:
            said, staged = interval.said, interval.staged
            parts.extend(
                (
                    interval.first.to_bytes(6, "little") + bytes((said.step, staged.step)),
                    place_of(said.ref),
                    place_of(staged.ref),
                )
            )
    return tuple(parts)


def lay_out(
    decisions: DecisionList,
    name: Place,
    place_of: Callable[[RuleRef], Place],
    inner: Callable[[bytes], Place],
) -> list[_Page]:
    """Lay a decision list out in pages: one for each protocol where it fits, else a page of pages, as deep as it takes.

    Args:
        decisions: the list.
        name: the place of its number.
        place_of: tells the place of a rule's number.
        inner: makes a place for the number of a page below, which these bytes tell from others of the same list.
    """
    pages: list[_Page] = []
    for protocol in sorted(decisions):
        entries = [_entry(interval, place_of) for interval in decisions[protocol]]
        level = 0
        while len(entries) > INTERVALS:
            level += 1
            groups = [entries[at : at + INTERVALS] for at in range(0, len(entries), INTERVALS)]
            entries = []
            for at, group in enumerate(groups):
                child = inner(b"%d %d %d" % (protocol, level, at))
                pages.append((child, protocol, group))
                entries.append((group[0][0], child, NOTHING, _DESCEND))
        pages.append((name, protocol, entries))
    return pages


def _entry(interval: Interval, place_of: Callable[[RuleRef], Place]) -> _Entry:
    said, staged = interval.said, interval.staged
    return interval.first, place_of(said.ref), place_of(staged.ref), bytes((said.step, staged.step))
