"""What people and their tools say to a controller about relocations, and hear: moves that one plan made, carried out together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from serai.migration.relocation import Standing
from serai.migration.states import State
from serai.wire.api import Body, Sentence, Word
from serai.wire.planapi import MOST_HOSTS, PlanReply

AtOnce = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class AtATime(Body, frozen=True, kw_only=True):
    """How much is done at a time."""

    together: AtOnce = 4
    """Moves under way at most."""
    of_a_host: AtOnce = 2
    """The same of one host, whether VMs come or go; what ``[moves] at_once`` says holds as well."""


class RelocationRequest(AtATime, frozen=True, kw_only=True):
    """Have a plan made, and carried out: of one that empties hosts, or of one that fills the hosts of a pool equally."""

    evacuate: Annotated[list[Word], msgspec.Meta(max_length=MOST_HOSTS)] = msgspec.field(default_factory=list)
    """Names of hosts on which no VM shall be left."""
    rebalance: Word = ""
    """The name of a pool."""
    expect: Word | None = None
    """The digest of the plan that somebody has seen (``moves_digest``): another one is not carried out."""


class StopRequest(Body, frozen=True, kw_only=True):
    """Begin no more moves of a relocation."""

    why: Sentence = ""
    """For those who read the audit log."""


class Relocation(Body, frozen=True, kw_only=True):
    """Moves that one plan made, as far as they have come together."""

    id: str
    number: int
    """Counts all relocations; names it as well as its id."""
    evacuate: Sequence[str]
    rebalance: str
    together: int
    of_a_host: int
    by: str
    asked: datetime
    state: Standing
    version: int
    """Grows with its changes, and with those of its moves."""
    moves: int
    """How many the plan has: done, aborted, under way, and waiting."""
    done: int
    aborted: int
    under_way: int
    waiting: int
    """Not begun. Of one that is over these are not made."""
    stuck: int
    """VMs that no plan could move."""
    why: str = ""
    """Why it has failed, was stopped, or begins nothing just now."""
    stop: str | None = None
    """Who wants it stopped."""
    ended: datetime | None = None


class RelocationList(Body, frozen=True, kw_only=True):
    """Some relocations, the latest first."""

    relocations: Sequence[Relocation]
    before: int | None = None
    """Where the next page begins; None: there is none."""


class RelocatedVm(Body, frozen=True, kw_only=True):
    """A move of a relocation that has begun."""

    number: int
    """Of the move: ``serai moves show`` has the rest."""
    vm: str
    source: str
    to: str
    state: State
    asked: datetime
    """It began then."""
    why: str = ""
    ended: datetime | None = None


class RelocationShown(Body, frozen=True, kw_only=True):
    """A relocation, with what is known of each of its moves."""

    relocation: Relocation
    begun: Sequence[RelocatedVm]
    """In the order in which they began. Who follows one that is not over is told of those under way, and of the latest that are over."""
    plan: PlanReply | None = None
    """What is carried out, with the VMs that are stuck; left out for who has seen it, as it stays what it is."""


def moves_digest(plan: PlanReply) -> str:
    """Return the digest of the moves of a plan: who agrees to them agrees to no others."""
    told = [[[move.vm, move.source, move.to] for move in each] for each in plan.rounds]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()
