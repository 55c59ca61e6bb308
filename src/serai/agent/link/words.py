"""What a host has said about its moves: the latest word about each is said again in every conversation, until the move is over."""

from __future__ import annotations

from typing import Final

from serai.agent.link.events import Command, Move, Send
from serai.wire.remote import Depart, Expect, Forget, Moving

MOST: Final = 1024
"""Moves whose latest word is kept; beyond, the oldest goes."""


class Words:
    """The latest word about each move that no controller has ended."""

    def __init__(self) -> None:
        """Have said nothing."""
        self._latest: dict[str, Moving] = {}

    def begin(self) -> list[Command]:
        """Say all again: what was said in another conversation may not have come."""
        return [Send(message=moving) for moving in self._latest.values()]

    def told(self, moving: Moving, *, talking: bool) -> list[Command]:
        """Know a later word about a move, and say it."""
        self._latest.pop(moving.move, None)
        self._latest[moving.move] = moving
        if len(self._latest) > MOST:
            del self._latest[next(iter(self._latest))]
        return [Send(message=moving)] if talking else []

    def order(self, order: Expect | Depart | Forget) -> list[Command]:
        """Have it done; what was said about a move that is to be forgotten is not said again."""
        if isinstance(order, Forget):
            self._latest.pop(order.move, None)
        return [Move(order=order)]
