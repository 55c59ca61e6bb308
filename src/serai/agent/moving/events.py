"""What happens to a move at one of its two hosts, and what that host does about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from serai.model.life import Life
from serai.model.migration import Facts, Step
from serai.wire.handoff import FromDestination, FromSource

_NOTHING: Final = Facts()

# Events, of either host


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has passed."""

    now: float
    """Counts from anywhere, as everywhere here."""
    clock: float
    """This host's, seconds since 1970."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """The hypervisor says how the VM's domain is here."""

    life: Life
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The controller says that the move is over, or shall be."""

    why: str
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """There is a conversation with the other host: TLS says that it is the one of the ticket."""

    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The other host has said something."""

    message: FromSource | FromDestination
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """The conversation is over, or there was none to be had."""

    why: str
    now: float


# Of the destination


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The controller asks once more whether this host is prepared."""

    digest: str
    """Of the ruleset that it should hold by now."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RulesHeld:
    """The kernel holds this ruleset now."""

    digest: str
    """Empty: none."""
    vnics: frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Flows are taken from sources there."""

    address: str
    """``ADDRESS:PORT``; empty: nowhere."""
    why: str = ""
    """Why nowhere, where that will not mend itself at once."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FlowsTaken:
    """What was to be taken was."""

    flows: int
    refused: int
    """Not taken, because the rules allow no such connection."""
    unprotected: int
    """Packets that gates here have let pass, though it was not their turn."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FlowsRefused:
    """What was to be taken is nothing that may be."""

    why: str


# Of the source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The controller gives its leave once more; the destination may take flows somewhere else by now."""

    address: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Flows were sent."""

    number: int
    """Of the last message."""
    flows: int
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MigrationEnded:
    """The hypervisor is done with moving the guest, that was begun here."""

    why: str
    """Why it has failed; empty: it has not."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What is told of the VM's flows here has ended: another host tells the rest."""

    unprotected: int
    """Packets that gates here have let pass, though it was not their turn any more."""


Event = (
    Ticked
    | Lived
    | Forgotten
    | Joined
    | Heard
    | Parted
    | Asked
    | RulesHeld
    | Listening
    | FlowsTaken
    | FlowsRefused
    | Told
    | Copied
    | MigrationEnded
    | HandedOver
)

# Commands


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Withhold:
    """Let no gate here forward for the VM."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let gates here forward for the VM, where it is."""

    amid: bool = False
    """Not all of its flows have come along: for a while take connections whose beginning nobody has seen."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Connect to the destination; ``Joined`` or ``Parted`` follows."""

    address: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Say this to the other host."""

    message: FromSource | FromDestination


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the conversation; nothing of it is heard any more."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Take these flows; ``FlowsTaken`` or ``FlowsRefused`` follows."""

    parts: Sequence[bytes]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Send flows, in messages counted from ``number``; ``Copied`` follows, or ``Parted``."""

    number: int
    whole: bool
    """All of them; otherwise those that were active since the last time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """Have the hypervisor move the guest; ``MigrationEnded`` follows."""

    address: str
    """Where the destination takes flows: the guest's memory goes to the same host."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StopMigration:
    """Have it stop that, where that can be done still; ``MigrationEnded`` follows in any case, also where nothing was under way."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Know that another host has taken the VM's flows; ``HandedOver`` follows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the controller how far the move has come."""

    step: Step
    address: str = ""
    facts: Facts = _NOTHING
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Keep on disk how far it has come."""


Command = Withhold | Release | Reach | Say | HangUp | Take | Copy | Migrate | StopMigration | HandOver | Tell | Remember
