"""The source's side of the conversation with the destination: what was said, and what of it was answered. No I/O, no clock."""

from __future__ import annotations

from typing import Final

from serai.agent.moving.events import Copied, Copy
from serai.wire.handoff import Turn

COPY_SECONDS: Final = 0.05
"""Between two copies, unless one takes so long that it would be most of what the agent does."""
ANSWER_SECONDS: Final = 5.0
"""How long the destination may take to answer."""
AGAIN_SECONDS: Final = 0.2
"""How long is waited until it is reached for again."""
_RARELY: Final = 4


class Line:
    """One conversation after the other, and what is between them."""

    def __init__(self) -> None:
        """Nobody has been reached yet, nor reached for."""
        self.joined = False
        self.reaching = False
        self.reach_at = 0.0
        """When it is time to reach for the destination again."""
        self.attempts = 0
        """In vain, since flows were taken last."""
        self.whole = False
        """All flows have been sent in this conversation."""
        self.turn = 0
        """The number of ``Turn`` in it; 0: that has not been said."""
        self.lost = ""
        """Why there was no conversation, the last time."""
        self._sent = self._acknowledged = 0
        self._waits_since = self._copied_at = 0.0
        self._pause = COPY_SECONDS

    @property
    def quiet(self) -> bool:
        """All flows have been sent, and everything has been answered."""
        return self.whole and self._acknowledged == self._sent

    def late(self, now: float) -> bool:
        """Say whether the destination has taken too long to answer."""
        return not self.quiet and now >= self._waits_since + ANSWER_SECONDS

    def due(self, now: float) -> bool:
        """Say whether it is time for another copy."""
        return self.quiet and now >= self._copied_at + self._pause

    def join(self, now: float) -> None:
        """Begin a conversation."""
        self.reaching, self.joined, self.whole = False, True, False
        self._sent = self.turn = 0
        self._waits_since = now

    def part(self, why: str, now: float) -> None:
        """It is over, or there was none to be had."""
        self.joined = self.reaching = self.whole = False
        self.lost = why
        self.attempts += 1
        self.reach_at = now + AGAIN_SECONDS

    def answered(self, number: int, now: float) -> bool:
        """Take an answer in; False: it is none to what was said."""
        fits = self._acknowledged < self._sent and number == self._acknowledged + 1 if self.whole else number == 0
        if fits:
            self._acknowledged, self._waits_since = number, now
            if self.quiet:
                self.attempts = 0
        return fits

    def copy(self, now: float) -> Copy:
        """Have flows sent: all of them at first."""
        self._copied_at = self._waits_since = now
        return Copy(number=self._sent + 1, whole=not self.whole)

    def copied(self, event: Copied) -> None:
        """They were sent."""
        self._sent, self.whole = event.number, True
        self._pause = max(COPY_SECONDS, _RARELY * (event.now - self._copied_at))

    def say_turn(self) -> Turn:
        """It is the destination's turn."""
        self._sent += 1
        self.turn = self._sent
        return Turn(number=self.turn, acknowledged=self._acknowledged)
