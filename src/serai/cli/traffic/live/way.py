"""The way somebody has come, and how they look at where they are."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from serai.cli.traffic.live.place import GROUPS, WINDOWS, Place
from serai.cli.traffic.live.question import Question

_STEPS: Final = 60


class Way:
    """From a scope, place by place, to here."""

    def __init__(self, scope: str, *, group: str, window: str, narrowed: str) -> None:
        """Begin at a scope; ``group`` is one of ``GROUPS`` or ``label:KEY``, ``window`` one of ``WINDOWS``, ``narrowed`` a filter."""
        self.group, self.window, self.narrowed = group, window, narrowed
        self._places = [Place.at(scope)]
        self._lines: list[Hashable] = []
        """Of each place but the last, the line that led on."""
        self._groups = list(dict.fromkeys([*GROUPS, group]))

    @property
    def here(self) -> Place:
        """Where one is."""
        return self._places[-1]

    @property
    def titles(self) -> list[str]:
        """What the places are called."""
        return [place.title for place in self._places]

    @property
    def question(self) -> Question:
        """What is to be asked."""
        return Question(place=self.here, group=self.group, window=self.window, narrowed=self.narrowed, steps=_STEPS)

    def go(self, place: Place, line: Hashable) -> None:
        """Go on, from a line of the list."""
        self._places.append(place)
        self._lines.append(line)

    def back(self) -> Hashable | None:
        """Go back; returns the line from which one had gone on, or None where there is no way back."""
        if not self._lines:
            return None
        self._places.pop()
        return self._lines.pop()

    def learn(self, labels: Iterable[str]) -> None:
        """Take in labels by which VMs can be put together as well."""
        self._groups = list(dict.fromkeys([*self._groups, *(f"label:{label}" for label in labels)]))

    def next_group(self) -> None:
        """Put VMs together by something else."""
        self.group = _next(self._groups, self.group)

    def next_window(self) -> None:
        """Look at another time."""
        self.window = _next([*WINDOWS], self.window)


def _next(words: list[str], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]
