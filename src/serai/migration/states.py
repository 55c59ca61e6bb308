"""What a move can be at, what can happen to it, and what can be done about it: the words of the state machine."""

from __future__ import annotations

import enum
from typing import Final


class State(enum.StrEnum):
    """Where a move stands, as the controller knows."""

    WAITING = "waiting"
    """Asked for; others go first. No host knows of it."""
    PLANNED = "planned"
    """The destination is sent the VM's rules, and is asked to prepare when it holds them. The source knows nothing yet."""
    PREPARED = "prepared"
    """The destination is ready, and the source has its leave."""
    COPIED = "copied"
    SWITCHED = "switched"
    LIVE = "live"
    """The destination's gate forwards. From here on there is no way back."""
    CARRIED = "carried"
    """The destination has all flows; the source's gate is not known to be closed yet."""
    FENCED = "fenced"
    """The source's gate is closed; the destination has not said that it has all flows."""
    ABORTING = "aborting"
    """Both hosts are told to forget it, and it is not known yet where the guest is."""
    DONE = "done"
    ABORTED = "aborted"


OVER: Final = frozenset({State.DONE, State.ABORTED})
"""Nothing follows."""


class Event(enum.StrEnum):
    """What can happen to a move."""

    TURN = "its turn comes"
    HELD = "destination holds the rules"
    """The digest is the one that the controller wants there."""
    IMPOSSIBLE = "it turns out impossible"
    """The destination has no room for the rules, they cannot be compiled, or there is no such VM any more."""
    PREPARED = "destination says prepared"
    STALE = "destination says prepared by other rules"
    """It says so of a ruleset that is not, or no longer, the one that it should hold."""
    COPIED = "source says copied"
    SWITCHED = "source says switched"
    LIVE = "destination says live"
    CARRIED = "destination says carried"
    FENCED = "source says fenced"
    SOURCE_ABORTED = "source says aborted"
    """Its word counts: the guest runs there."""
    DESTINATION_ABORTED = "destination says aborted"
    THERE = "seen at the destination alone"
    """The destination guards it, and the source, which is connected, runs it no more."""
    SOURCE_LEFT = "source is gone"
    SOURCE_CAME = "source is back"
    DESTINATION_LEFT = "destination is gone"
    DESTINATION_CAME = "destination is back"
    ABORT = "somebody aborts it"
    OVERDUE = "time is over, nobody knows where it is"
    OVERDUE_HERE = "time is over, it is at the source"
    """And not at the destination, as both tell."""
    OVERDUE_THERE = "time is over, it is at the destination"
    """It guards it; the source may be silent."""
    RESUMED = "another controller leads"
    """Or the same one after a restart: what it said last may not have been said."""


class Command(enum.StrEnum):
    """What is done about it."""

    PLAN = "plan"
    """Have the destination sent the VM's rules, as long as the move is not over."""
    EXPECT = "expect"
    """Say so to the destination, or say it again."""
    DEPART = "depart"
    """The same to the source."""
    FORGET = "forget"
    """The same to both."""
    REFUSE = "refuse"
    """Whoever aborts it is told that it is too late."""
    END = "end"
    """Write the receipt; then where the VM is, the hosts' reports tell; both hosts are told that it is over."""
