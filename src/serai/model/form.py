"""Records in which the numbers are left open: made once for a shape of policies, filled in for every domain of that shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Place = int
"""A place in a list of numbers."""

NOTHING: Final = 0
"""The place of the number 0, which names nothing."""

WORD: Final = 8
"""Bytes of a number. Records are whole numbers of words, and numbers in them stand at word boundaries."""

GAP: Final = np.dtype([("word", "<u4"), ("place", "<u4")])
"""Where in a text a number is left open, counted in words, and the place of the number that belongs there."""


class Form:
    """A text of bytes with gaps of one word each."""

    __slots__ = ("_gaps", "_text")

    def __init__(self, text: bytes, gaps: NDArray[np.void]) -> None:
        """Take the text and its gaps (records of ``GAP``).

        Raises:
            ValueError: a gap is not in the text, or the text is no whole number of words.
        """
        self._text = np.frombuffer(text, np.uint64)
        self._gaps = gaps
        if len(gaps) and int(gaps["word"].max()) >= len(self._text):
            raise ValueError("a number belongs behind the end of its record")

    @classmethod
    def of(cls, text: bytes, gaps: Iterable[tuple[int, Place]]) -> Self:
        """Take the text, and of each gap its word and place."""
        return cls(text, np.array(list(gaps), GAP))

    @property
    def text(self) -> bytes:
        """The text."""
        return self._text.tobytes()

    @property
    def gaps(self) -> bytes:
        """Records of ``GAP``."""
        return self._gaps.tobytes()

    def filled(self, numbers: NDArray[np.uint64]) -> bytes:
        """Return the text once for each row of ``numbers``, with what stands at their places in that row.

        Raises:
            ValueError: there are not enough numbers in a row.
        """
        if len(self._gaps) and int(self._gaps["place"].max()) >= numbers.shape[1]:
            raise ValueError("a number is missing")
        made = np.empty((len(numbers), len(self._text)), np.uint64)
        made[:] = self._text
        made[:, self._gaps["word"]] = numbers[:, self._gaps["place"]]
        return made.tobytes()
