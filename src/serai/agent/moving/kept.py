"""What an agent remembers of a move, so that the next agent of its host goes on from there."""

from __future__ import annotations

import enum

import msgspec

from serai.model.migration import Facts, Ticket


class Phase(enum.StrEnum):
    """How far a move has come at one of its hosts."""

    WAITING = "waiting"
    """The destination has not got the VM's rules yet."""
    READY = "ready"
    """It has; flows may come, and its gates wait."""
    TURNED = "turned"
    """The source's gates are closed and its own are open; whether the guest will run there is not certain yet."""
    LIVE = "live"
    """The guest runs there."""

    COPYING = "copying"
    """The source sends the flows that there are."""
    COPIED = "copied"
    """The destination has them; the guest is about to be moved."""
    SWITCHED = "switched"
    """The guest is stopped at the source, whose gates are closed."""
    RETURNING = "returning"
    """The guest has come back to the source, and the destination's gates may be open still."""
    FENCED = "fenced"
    """The guest is gone from the source."""

    ABORTED = "aborted"
    """Of either: nothing has moved."""


class Arriving(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="arriving"):
    """A move as its destination remembers it."""

    ticket: Ticket
    digest: str
    """Of the ruleset that the destination shall hold."""
    phase: Phase
    complete: bool
    """All flows have come."""
    facts: Facts
    lease_until: float = 0.0
    """Of ``TURNED``, by the clock of this boot of the host."""
    silent: bool = False
    """The controller wants to hear no more of it."""
    why: str = ""
    """What was told with its last word."""


class Departing(msgspec.Struct, frozen=True, kw_only=True, tag_field="role", tag="departing"):
    """A move as its source remembers it."""

    ticket: Ticket
    address: str
    migrate: bool
    phase: Phase
    began: bool
    """The hypervisor has been asked to move the guest."""
    facts: Facts
    silent: bool = False
    """The controller wants to hear no more of it."""
    why: str = ""
    """What was told with its last word."""


Kept = Arriving | Departing
