"""Records in which the numbers are left open: made once for a shape of policies, filled in for everybody who has that shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Place = int
"""A place in a list of numbers."""

NOTHING: Final = 0
"""The place of the number 0, which names nothing."""

Numbers = NDArray[np.uint64]
"""Numbers by their places: a row for everybody whose form is filled in."""

WORD: Final = 8
"""Bytes of a number. Records are whole numbers of words, and numbers in them stand at word boundaries."""


class Form:
    """A text of bytes with gaps of one word each."""

    __slots__ = ("_gaps", "_places", "_text")

    def __init__(self, text: bytes, gaps: Iterable[tuple[int, Place]]) -> None:
        """Take the text, zero in the gaps; each gap is a word's position in it and the place of what belongs there."""
        where = np.array(list(gaps), np.int64).reshape(-1, 2)
        self._text = np.frombuffer(text, np.uint64)
        self._gaps, self._places = where[:, 0], where[:, 1]

    def __len__(self) -> int:
        """Return how many bytes it has."""
        return int(self._text.nbytes)

    def filled(self, numbers: Numbers) -> list[bytes]:
        """Return the text once for each row of ``numbers``."""
        made = np.empty((len(numbers), len(self._text)), np.uint64)
        made[:] = self._text
        made[:, self._gaps] = numbers[:, self._places]
        raw = memoryview(made.reshape(-1)).cast("B")
        size = len(self)
        return [bytes(raw[at : at + size]) for at in range(0, len(raw), size)] if size else [b""] * len(numbers)
