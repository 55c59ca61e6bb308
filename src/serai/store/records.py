"""What the store takes in and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from serai.access.roles import Grant
from serai.migration.relocation import Standing
from serai.migration.states import State as MoveState
from serai.model.host_facts import HostFacts
from serai.model.key import Key
from serai.model.migration import Facts, Receipt, Step, Ticket


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the audit log is to say of an act."""

    who: str
    verb: str
    object: str
    scope: str
    outcome: Literal["done", "refused", "failed"]
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredResource:
    """One resource in force."""

    key: Key
    body: str
    revision: int
    """That wrote it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A change to be made."""

    head: int
    """The revision that it was checked against."""
    by: str
    message: str
    digest: str
    writes: Mapping[Key, str | None]
    """None: it is deleted."""
    audit: Entry
    confirm_by: datetime | None = None
    reverts: int | None = None
    """The revision, unconfirmed, that it takes back."""
    proposal: int | None = None
    """What it carries out; whoever is the last to stand behind it is on record as who does."""
    term: int | None = None
    """Of the leader who makes it; None: it is nobody's as a leader."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A change that was made."""

    number: int
    at: datetime
    by: str
    message: str
    digest: str
    confirm_by: datetime | None
    confirmed: bool
    reverts: int | None
    proposal: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Revision):
    """The same, with what it wrote."""

    writes: Mapping[Key, str | None]
    before: Mapping[Key, str | None]


State = Literal["open", "applied", "rejected", "expired", "stale"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change that waits, or waited, for a second person."""

    id: int
    digest: str
    base: int
    by: str
    message: str
    created: datetime
    expires: datetime
    state: State
    needs: int
    approvals: tuple[str, ...]
    """Who stands behind it, the author first."""
    writes: Mapping[Key, str | None]
    confirm_seconds: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PersonRecord:
    """Somebody who may do something."""

    name: str
    grants: tuple[Grant, ...]
    password: str | None = None
    """Hashed and encoded; None: there is none to log in with."""
    oidc: str | None = None
    """Issuer and subject, with a space between."""
    disabled: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token, without its secret."""

    id: str
    person: str
    name: str
    secret_digest: bytes
    """SHA-256."""
    grants: tuple[Grant, ...] | None
    """What it is limited to; None: it is not."""
    kind: Literal["session", "api"]
    created: datetime
    expires: datetime
    revoked: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenRecord:
    """What lets a host join, without its secret."""

    id: str
    host: str
    secret_digest: bytes
    expires: datetime
    by: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """A host that has joined."""

    name: str
    key_digest: bytes
    serial: str
    """Of its latest certificate."""
    previous: str
    """Of the one before that, which is good until the latest has been used; empty: there is none."""
    joined: datetime
    until: datetime
    """When its latest certificate runs out."""
    revoked: datetime | None
    epoch: int
    """What the life of its latest agent is called."""

    @property
    def serials(self) -> frozenset[str]:
        """The certificates that are good."""
        return frozenset({self.serial, self.previous} - {""})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """What is known of a host by the controller that leads."""

    name: str
    connected: bool
    since: datetime | None
    agent: str
    epoch: int
    holds: str | None
    wanted: str | None
    revision: int
    """As of which what it holds was wanted last."""
    trouble: str
    vnics: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MoveRecord:
    """A move of a VM, as far as it has come."""

    number: int
    """Counts all moves."""
    id: str
    vm: str
    """Its path."""
    to: str
    by: str
    asked: datetime
    epoch: int
    """Counts the moves of this VM."""
    state: MoveState
    since: datetime
    """It stands there since then."""
    version: int = 1
    """Counts its changes."""
    reached: Step = Step.PLANNED
    """How far it has come, at the most."""
    source: str = ""
    """Empty: that is looked at when its turn comes."""
    ticket: Ticket | None = None
    address: str = ""
    """Where the destination takes flows."""
    digest: str = ""
    """What was attested of the destination before the source had its leave."""
    here: Facts = dataclasses.field(default_factory=Facts)
    """What the source has told."""
    there: Facts = dataclasses.field(default_factory=Facts)
    """What the destination has told."""
    why: str = ""
    """Why it waits, or is aborted."""
    note: str = ""
    """What could not be done of it, though it is made."""
    abort: str | None = None
    """Who wants it aborted."""
    migrate: bool = True
    """The source has the hypervisor move the guest; otherwise somebody else does that already, and waits for no turn."""
    ended: datetime | None = None
    receipt: Receipt | None = None
    audit: int | None = None
    """The number of the audit record that has the receipt."""
    relocation: str = ""
    """The id of the relocation that it is part of; empty: somebody wanted this one alone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RelocationRecord:
    """Moves that one plan made, as far as they have come together. The plan is kept beside it."""

    number: int
    """Counts all relocations."""
    id: str
    goal: str
    """What the plan was asked for, in JSON, as the API has it."""
    limits: str
    """How many moves at a time, in JSON."""
    moves: int
    """How many the plan has."""
    stuck: int
    """VMs that it cannot move."""
    by: str
    asked: datetime
    state: Standing
    why: str = ""
    """Why it has failed, was stopped, or begins nothing just now."""
    stop: str | None = None
    """Who wants it stopped."""
    version: int = 1
    """Counts its changes."""
    ended: datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How the moves of a relocation stand that have begun."""

    done: int = 0
    aborted: int = 0
    under_way: int = 0
    versions: int = 0
    """The sum of their versions: it grows with every change of any."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToldFacts:
    """What a host has told that it is made of."""

    host: str
    told: datetime
    """When it has said so last."""
    facts: HostFacts


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who leads a shard."""

    url: str
    term: int
    since: datetime
    compiled: int
    """The revision up to which hosts have been told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What tells that something has changed."""

    head: int
    hosts: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One record of the audit log."""

    body: bytes
    leaf_hash: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Some of the audit log."""

    records: Sequence[AuditLine]
    size: int
    after: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditProof:
    """What proves that a record is in the audit log, and that the log continues what it was."""

    body: bytes
    """The record."""
    seq: int
    checkpoint: str
    """Signed, of all that there is."""
    inclusion: tuple[bytes, ...]
    consistency: tuple[bytes, ...]
    """From the size that was asked about."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """What a look at the whole audit log has found."""

    size: int
    root: bytes
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.faults
