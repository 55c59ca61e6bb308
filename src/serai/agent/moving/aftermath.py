"""A move that has ended at its source, and what hypervisors do after it that nobody has given leave for. No I/O, no clock."""

from __future__ import annotations

from serai.agent.moving.events import Command, Release, Remember, Withhold
from serai.model.life import Life


class Aftermath:
    """What gates here wait for when a move is over."""

    def __init__(self, *, away: bool, silent: bool) -> None:
        """``away``: gates here do not forward for the VM; ``silent``: the controller wants to hear no more of it."""
        self.away = away
        self.silent = silent
        self.over = False
        """There is nothing left to do or to know."""

    def lived(self, life: Life, *, aborted: bool) -> list[Command]:
        """The hypervisor says how the VM's domain is here; ``aborted``: the move has left it where it was."""
        match life:
            case Life.HELD if aborted and not self.away:
                self.away = True
                return [Withhold()]
            case Life.RUNS if self.away:
                self.away = False
                return [Release(), *self._quiet()]
            case Life.GONE | Life.MOVED:
                return self._quiet()
            case _:
                return []

    def forgotten(self, *, aborted: bool) -> list[Command]:
        """The controller wants to hear no more of it."""
        self.silent = True
        return [Remember()] if aborted and self.away else self._quiet()

    def _quiet(self) -> list[Command]:
        """What gates waited for has come."""
        if not self.silent:
            return []
        self.over = True
        return [*([Release()] if self.away else []), Remember()]
