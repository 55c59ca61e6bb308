"""What the source of a move counts for its receipt. No I/O, no clock."""

from __future__ import annotations

import msgspec

from serai.model.migration import Facts


class Account:
    """Facts that grow."""

    def __init__(self, facts: Facts) -> None:
        """Go on from these."""
        self.facts = facts
        self._stopped_at: float | None = None

    def sent(self, flows: int, *, first: bool) -> None:
        """Flows were sent: for the ``first`` time, or because they have changed."""
        self.facts = msgspec.structs.replace(
            self.facts,
            flows_first=self.facts.flows_first + (flows if first else 0),
            flows_later=self.facts.flows_later + (0 if first else flows),
        )

    def stopped(self, now: float) -> None:
        """The guest is stopped here."""
        self._stopped_at = now

    def runs_there(self, now: float) -> None:
        """The guest runs at the destination: for how long it was stopped is known if that was seen."""
        if self._stopped_at is not None and self.facts.gap_us is None:
            gap_us = max(0, round((now - self._stopped_at) * 1e6))
            self.facts = msgspec.structs.replace(self.facts, gap_us=gap_us)

    def fenced(self, unprotected: int, *, encrypted: bool | None) -> None:
        """Gates here are closed for good, and have let ``unprotected`` packets pass that were not theirs any more."""
        self.facts = msgspec.structs.replace(
            self.facts, unprotected=self.facts.unprotected + unprotected, encrypted=encrypted
        )
