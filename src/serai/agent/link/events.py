"""What happens on an agent's link, and what the link does about it."""

from __future__ import annotations

import dataclasses

from serai.model.host_facts import HostFacts
from serai.wire.remote import Depart, Entering, Entry, Expect, Forget, FromAgent, FromController, Moving, Records, Sight


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What this host holds and whom it sees."""

    digest: bytes | None
    """Of the ruleset that the kernel holds."""
    parts: tuple[bytes, ...] = ()
    """The digests of its parts."""
    sight: Sight
    facts: HostFacts | None = None
    """What it is made of; None: that is not known yet."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What must outlive a restart of the agent."""

    term: int = 0
    """The highest of a leader that this host has obeyed."""
    epoch: int = 0
    """The last that an agent of this host was given."""
    checkpoint: str = ""
    """The latest of the audit log that this host was given."""


# Events


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A controller has been reached; TLS says that it is one of the site's."""

    holding: Holding
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """It has said something."""

    message: FromController
    now: float
    clock: float
    """This host's, seconds since 1970; ``now`` counts from anywhere."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """There is no connection, or none any more."""

    why: str
    refused: bool = False
    """The controller does not accept this host's certificate, as far as can be told."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """The host holds something else, or sees somebody else."""

    holding: Holding


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """What was sent is in force."""

    number: int
    digest: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was sent is not in force."""

    number: int
    why: str
    digest: bytes | None
    """Of what is."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestMade:
    """There is a new key, and this asks for its certificate."""

    csr: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CertificateHeld:
    """This host's certificate, new or not, is good for that time (seconds since 1970)."""

    since: float
    until: float
    listens: bool = True
    """It is good for being reached by other hosts; one of before is not, and is renewed soon."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFailed:
    """There is no new certificate."""

    why: str
    refused: bool = False
    """A controller has said no."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Some time has passed."""

    now: float
    clock: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchesReady:
    """There are batches of records to be sent, or others than before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchRead:
    """This is the batch that was asked for."""

    batch: Records | None
    """None: there is no other."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoveTold:
    """This is the host's latest word about a move."""

    moving: Moving


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntryWanted:
    """The hypervisor waits for word whether a VM may run here."""

    entering: Entering


Event = (
    Connected
    | Received
    | Lost
    | HostChanged
    | Enforced
    | Refused
    | RequestMade
    | CertificateHeld
    | RenewalFailed
    | Ticked
    | BatchesReady
    | BatchRead
    | MoveTold
    | EntryWanted
)

# Commands


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Connect to a controller; ``Connected`` or ``Lost`` follows."""

    url: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Tick when this has passed."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Say this."""

    message: FromAgent


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the conversation; ``Lost`` follows."""

    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Enforce:
    """Have this ruleset enforced; ``Enforced`` or ``Refused`` follows."""

    number: int
    ruleset: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Have the ruleset that is held changed so; ``Enforced`` or ``Refused`` follows."""

    number: int
    delta: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Keep this on disk before anything else is done."""

    memory: Memory


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MakeRequest:
    """Make a new key; ``RequestMade`` or ``RenewalFailed`` follows."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Use this certificate from now on; ``CertificateHeld`` or ``RenewalFailed`` follows."""

    certificate: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RenewApart:
    """Ask for a new certificate over HTTPS, since this one opens no connection; an answer follows as for ``Install``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """Read the batch that comes after this one; ``BatchRead`` follows."""

    after: tuple[str, int] | None
    """Its spool, and its number there; None: read the oldest."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForgetBatches:
    """A controller keeps all batches of this spool up to this number."""

    spool: str
    number: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Have this done about a move; ``MoveTold`` follows, again and again."""

    order: Expect | Depart | Forget


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TellEntry:
    """This is the word that somebody waits for."""

    entry: Entry


Command = (
    Dial
    | Wake
    | Send
    | HangUp
    | Enforce
    | Change
    | Remember
    | MakeRequest
    | Install
    | RenewApart
    | ReadBatch
    | ForgetBatches
    | Move
    | TellEntry
)
