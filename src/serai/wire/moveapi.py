"""What people and their tools say to a controller about moves of VMs, and hear."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from serai.migration.states import State
from serai.model.migration import Facts, Receipt, Step
from serai.wire.api import Body, Sentence, Word


class MoveRequest(Body, frozen=True, kw_only=True):
    """Move a VM to a host."""

    vm: Word
    """Its path: ``/acme/shop:web``."""
    to: Word


class AbortRequest(Body, frozen=True, kw_only=True):
    """Abort a move."""

    why: Sentence = ""
    """For those who read the audit log."""


class Move(Body, frozen=True, kw_only=True):
    """A move of a VM, as far as it has come."""

    id: str
    number: int
    """Counts all moves; names it as well as its id."""
    vm: str
    source: str
    """Empty as long as it waits."""
    to: str
    by: str
    asked: datetime
    epoch: int
    """Counts the moves of this VM."""
    state: State
    since: datetime
    """It stands there since then."""
    reached: Step
    """How far it has come, at the most."""
    version: int
    """Counts its changes."""
    why: str = ""
    """Why it waits, is being aborted, or was; of one that is made, what of it could not be done."""
    ended: datetime | None = None
    facts: Facts = msgspec.field(default_factory=Facts)
    """What hosts have told so far."""
    receipt: Receipt | None = None
    """Of one that is over, and ever had a ticket."""


class MoveList(Body, frozen=True, kw_only=True):
    """Some moves, the latest first."""

    moves: Sequence[Move]
    before: int | None = None
    """Where the next page begins; None: there is none."""


class MoveProof(Body, frozen=True, kw_only=True):
    """What proves that the audit log has the receipt of a move, and is what it was."""

    record: str
    """The record, to the letter: what is hashed."""
    seq: int
    note: str
    """The signed checkpoint of all that there is, whole."""
    key: str
    """The public key of the log (Ed25519), in base64."""
    inclusion: Sequence[str]
    """RFC 6962, 2.1.1: that the record is in the tree of the checkpoint; in hexadecimal, from the leaf up."""
    consistency: Sequence[str]
    """RFC 6962, 2.1.2: that this tree continues the one of the size that was asked about."""
