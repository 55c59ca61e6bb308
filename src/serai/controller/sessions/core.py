"""What is decided about conversations with agents: messages in, verdicts out. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec

from serai.migration.machine import TOLD
from serai.wire.remote import (
    VERSION,
    Described,
    Difference,
    Entering,
    FromAgent,
    FromController,
    Held,
    Hello,
    Moving,
    Records,
    Renew,
    Seen,
    Whole,
)

UNANSWERED: Final = 16
"""Rulesets that an agent may owe an answer for; nobody sends more."""

_STEPS: Final = frozenset(step for _, step in TOLD)
"""What hosts may say of a move; the rest is the controller's word."""

_C = TypeVar("_C")


class OutOfTurnError(ValueError):
    """An agent has said what may not be said now; the message says what."""


class Conversation:
    """What one agent has said and was sent, from its ``Hello`` on."""

    def __init__(self) -> None:
        """Begin: nothing is said."""
        self._greeted = False
        self._admitted = False
        self._number = 0
        self._unanswered: set[int] = set()
        self._renewing = False

    def hear(self, message: FromAgent) -> None:
        """Take in a message.

        Raises:
            OutOfTurnError: it may not be said now; nothing of it is taken in.
        """
        match message:
            case Hello():
                if self._greeted:
                    raise OutOfTurnError("it says hello again")
                if message.version != VERSION:
                    raise OutOfTurnError(
                        f"it speaks version {message.version}, and this controller {VERSION}: upgrade the older of them"
                    )
                self._greeted = True
            case _ if not self._admitted:
                raise OutOfTurnError("it says something else before hello")
            case Held(answers=number) if number:
                if number not in self._unanswered:
                    raise OutOfTurnError(f"it answers ruleset {number}, which it was not sent or has answered")
                self._unanswered.discard(number)
            case Held(refused=why) if why:
                raise OutOfTurnError("it refuses what it was not sent")
            case Renew():
                if self._renewing:
                    raise OutOfTurnError("it asks for a certificate while it waits for one")
                self._renewing = True
            case Moving(step=step) if step not in _STEPS:
                raise OutOfTurnError(f"it says that a move is {step}, which is the controller's to say")
            case Held() | Seen() | Described() | Records() | Moving() | Entering():
                pass

    def admit(self) -> None:
        """From now on it may say more than ``Hello``."""
        self._admitted = True

    def renewed(self) -> None:
        """Its request for a certificate is answered."""
        self._renewing = False

    def number(self, message: FromController) -> tuple[FromController, int]:
        """Return ``message`` with its number, which counts the rulesets of this conversation; others have the number 0.

        Raises:
            OutOfTurnError: it owes too many answers.
        """
        if not isinstance(message, Whole | Difference):
            return message, 0
        if len(self._unanswered) >= UNANSWERED:
            raise OutOfTurnError(f"it owes answers to {UNANSWERED} rulesets")
        self._number += 1
        self._unanswered.add(self._number)
        return msgspec.structs.replace(message, number=self._number), self._number


class Newest(Generic[_C]):
    """Of each host, the newest agent's connection."""

    def __init__(self) -> None:
        """Know nobody."""
        self._connections: dict[str, tuple[int, _C]] = {}

    def come(self, host: str, epoch: int, connection: _C) -> tuple[bool, _C | None]:
        """Take in that an agent of ``host`` has come; return whether it is the newest, and whom it has taken the place of.

        Of two in the same life the later connection counts: the agent has given up the earlier one.
        """
        before = self._connections.get(host)
        if before is not None and before[0] > epoch:
            return False, None
        self._connections[host] = (epoch, connection)
        return True, before[1] if before else None

    def gone(self, host: str, connection: _C) -> bool:
        """Take in that a connection is over; return whether it was the newest of its host."""
        known = self._connections.get(host)
        if known is None or known[1] is not connection:
            return False
        del self._connections[host]
        return True

    def of(self, host: str) -> _C | None:
        """The newest connection of ``host``."""
        known = self._connections.get(host)
        return known[1] if known else None

    @property
    def all(self) -> Mapping[str, _C]:
        """All of them, by host."""
        return {host: connection for host, (_, connection) in self._connections.items()}
