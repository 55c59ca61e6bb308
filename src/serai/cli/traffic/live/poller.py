"""Asks a controller again and again, in a thread of its own: a slow answer must not stop the screen."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from serai.cli.traffic.live.question import Asks
from serai.wire.client import ClientError

SECONDS: Final = 2.0
"""Between two answers."""


class Askable(Protocol):
    """Something that a controller answers."""

    def ask(self, client: Asks, now: datetime, /) -> object:
        """Have it answered."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a question."""

    question: Askable
    at: datetime
    found: object = None
    error: Exception | None = None
    """A ``ClientError`` where the controller says no or nothing; anything else is a bug."""


class Poller:
    """Has one question answered every two seconds, and others once."""

    def __init__(self, client: Asks, tell: Callable[[Answer], None], *, seconds: float = SECONDS) -> None:
        """Begin with no question.

        Args:
            client: of this thread alone.
            tell: called in this thread.
            seconds: between an answer and asking again.
        """
        self._client, self._tell, self._seconds = client, tell, seconds
        self._changed = threading.Condition()
        self._standing: Askable | None = None
        self._once: deque[Askable] = deque()
        self._due = self._paused = self._over = False
        # The interpreter does not wait for an answer that is still to come when the person has gone.
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def watch(self, question: Askable) -> None:
        """From now on ask this, and at once."""
        with self._changed:
            self._standing, self._due = question, True
            self._changed.notify()

    def once(self, question: Askable) -> None:
        """Ask this as well, as soon as can be."""
        with self._changed:
            self._once.append(question)
            self._changed.notify()

    def pause(self, *, paused: bool) -> None:
        """Ask nothing again that was answered, or go on."""
        with self._changed:
            self._paused, self._due = paused, not paused
            self._changed.notify()

    def stop(self) -> None:
        """Ask nothing more."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _run(self) -> None:
        while (question := self._next()) is not None:
            found, error = None, None
            try:
                found = question.ask(self._client, datetime.now(UTC))
            except Exception as raised:  # noqa: BLE001  # a bug is to be seen on the screen, not to end a thread in silence
                error = raised
            if not self._over:
                self._tell(Answer(question=question, at=datetime.now(UTC), found=found, error=error))

    def _next(self) -> Askable | None:
        with self._changed:
            while True:
                on_time = self._changed.wait_for(
                    lambda: self._over or self._once or self._due, None if self._paused else self._seconds
                )
                if self._over:
                    return None
                if self._once:
                    return self._once.popleft()
                if self._standing is not None and (self._due or not on_time):
                    self._due = False
                    return self._standing


def passes(error: ClientError) -> bool:
    """Say whether it may be answered later: nobody was there, or somebody in trouble."""
    return error.status is None or error.status >= 500 or error.status == 429  # noqa: PLR2004  # statuses of HTTP
