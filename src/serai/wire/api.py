"""What people and their tools say to a controller, and hear: the bodies of the HTTP API, for both of its ends.

A resource is named by its kind and its path: ``Policy`` and ``/acme:shop``. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes in one request at the most."""
_TEXT: Final = r"^[^\u0000]*$"  # PostgreSQL takes no NUL, and nobody needs one

Word = Annotated[str, msgspec.Meta(pattern=_TEXT, max_length=512)]
"""A name, a path, a digest."""
Sentence = Annotated[str, msgspec.Meta(pattern=_TEXT, max_length=4096)]
Writing = Annotated[str, msgspec.Meta(pattern=_TEXT)]
"""A file, say."""
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a database holds."""
Seconds = Annotated[int, msgspec.Meta(ge=1, le=7 * 24 * 60 * 60)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One body. What it does not know it refuses."""


class Fault(Body, frozen=True, kw_only=True):
    """One thing that is wrong with what was sent."""

    where: str
    """File and line for what came as files; else the name of the field, as in ``files``."""
    resource: str = ""
    """E.g. ``Policy /acme:shop``."""
    field: str = ""
    """E.g. ``spec.ingress[0].ports[1]``."""
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something was not done (RFC 9457)."""

    type: str
    """``urn:serai:problem:NAME``; see docs/API.md for the names."""
    title: str
    status: int
    detail: str
    """What is wrong and what to do, in a sentence."""
    errors: Sequence[Fault] = ()


class Named(Body, frozen=True, kw_only=True):
    """One resource, by name."""

    kind: Word
    path: Word


class Resource(Body, frozen=True, kw_only=True):
    """One resource in force."""

    kind: str
    path: str
    scope: str
    revision: int
    """The revision that wrote it as it is."""
    body: Mapping[str, Any]
    """As it was written: apiVersion, kind, metadata, spec."""


class Page(Body, frozen=True, kw_only=True):
    """Some of the resources, in order of kind and path."""

    resources: Sequence[Resource]
    revision: int
    """What is in force is as of this revision."""
    after: str | None = None
    """Where the next page begins; None: there is none."""


class ChangeRequest(Body, frozen=True, kw_only=True):
    """Make these resources so. What is not mentioned stays as it is."""

    files: Mapping[Word, Writing] = {}
    """YAML, by the names that errors shall call them."""
    delete: Sequence[Named] = ()
    prune: Word | None = None
    """A scope: what is in it or below, and in no file, is deleted."""
    base: Number | None = None
    """The revision that the author has seen: what is to be changed must not have been changed since."""
    message: Sentence = ""
    confirm_seconds: Seconds | None = None
    """Roll back by itself unless confirmed by then."""
    expect: Word | None = None
    """The digest of the change, from its plan: nothing else is to be done."""


class Step(Body, frozen=True, kw_only=True):
    """What becomes of one resource."""

    kind: str
    path: str
    does: Literal["create", "change", "delete"]
    fields: Sequence[str] = ()
    """What differs, for a change: ``spec.ingress[0].ports``."""


class Opening(Body, frozen=True, kw_only=True):
    """Connections that a change opens or closes: a row of what ``diff`` says."""

    change: Literal["opens", "closes"]
    sources: str
    targets: str
    ports: str


class Plan(Body, frozen=True, kw_only=True):
    """What a change would do. Nothing has been done."""

    digest: str
    """Of the change, bound to the resources as they are now."""
    base: int
    steps: Sequence[Step]
    connections: Sequence[Opening] | None = None
    """None: too much to calculate here; ask for a part with ``serai diff``."""
    hosts: Sequence[str] = ()
    """Who would be sent another ruleset."""
    approvals: int = 1
    """How many people must stand behind it, the author included."""


class Applied(Body, frozen=True, kw_only=True):
    """A change is in force."""

    revision: int
    steps: Sequence[Step]
    hosts: Sequence[str] = ()
    """Who is sent another ruleset for it."""
    confirm_by: datetime | None = None


class Proposed(Body, frozen=True, kw_only=True):
    """A change waits for a second person."""

    proposal: int
    digest: str
    expires: datetime
    steps: Sequence[Step]


class Proposal(Body, frozen=True, kw_only=True):
    """A change that waits, or waited, for a second person."""

    id: int
    digest: str
    by: str
    message: str
    created: datetime
    expires: datetime
    state: Literal["open", "applied", "rejected", "expired", "stale"]
    approvals: Sequence[str]
    """Who stands behind it, the author first."""
    needs: int
    steps: Sequence[Step]


class Proposals(Body, frozen=True, kw_only=True):
    """Proposals, the latest first."""

    proposals: Sequence[Proposal]


class Vote(Body, frozen=True, kw_only=True):
    """Approve or reject a proposal, as it was seen."""

    digest: Word


class RollbackRequest(Body, frozen=True, kw_only=True):
    """Make everything as it was at a revision."""

    to: Number
    message: Sentence = ""
    confirm_seconds: Seconds | None = None


class Revision(Body, frozen=True, kw_only=True):
    """One change that was made."""

    number: int
    at: datetime
    by: str
    message: str
    digest: str
    steps: Sequence[Step]
    confirm_by: datetime | None = None
    """Rolled back by itself unless confirmed by then."""
    confirmed: bool = True
    reverts: int | None = None
    """The revision that it takes back."""


class Revisions(Body, frozen=True, kw_only=True):
    """Some of the changes that were made, the latest first."""

    revisions: Sequence[Revision]
    before: int | None = None
    """Where the next page begins; None: there is none."""


class Gate(Body, frozen=True, kw_only=True):
    """One vNIC on a host."""

    vnic: str
    """Its path."""
    tap: str | None
    mode: str | None


class HostStatus(Body, frozen=True, kw_only=True):
    """One host, as its agent and the controller see it."""

    name: str
    joined: bool
    connected: bool
    since: datetime | None = None
    """Connected, or silent, since then."""
    agent: str = ""
    """The version of its agent."""
    epoch: int = 0
    holds: str | None = None
    """The digest that its kernel holds, as it has acknowledged."""
    wanted: str | None = None
    """The digest that it should hold."""
    revision: int = 0
    """The revision that what it holds belongs to."""
    behind: bool = True
    """It has not acknowledged what it should hold."""
    trouble: str = ""
    """What it, or the compiler, has said against its ruleset."""
    revoked: bool = False
    certificate_until: datetime | None = None
    gates: Sequence[Gate] = ()
    """Only where one host is asked for."""
    vnics: int = 0


class Status(Body, frozen=True, kw_only=True):
    """Where everything stands."""

    revision: int
    hosts: Sequence[HostStatus]
    leader: str = ""
    """The controller that compiles."""
    confirm: Sequence[Revision] = ()
    """What waits to be confirmed."""
    behind: int = 0
    """How many hosts do not hold what they should."""


class Hosts(Body, frozen=True, kw_only=True):
    """Hosts, by name."""

    hosts: Sequence[HostStatus]


class JoinTokenRequest(Body, frozen=True, kw_only=True):
    """Let a host join."""

    host: Word


class JoinToken(Body, frozen=True, kw_only=True):
    """What ``serai agent join`` takes; good once, for 15 minutes."""

    token: str
    host: str
    expires: datetime


class JoinRequest(Body, frozen=True, kw_only=True):
    """A host that joins."""

    token: Word
    csr: Writing
    """PEM, PKCS #10: the key is the host's own and never leaves it."""
    host: str = ""
    """What the host calls itself, if it says so: where the token is for another, it is refused and not used up."""


class RenewRequest(Body, frozen=True, kw_only=True):
    """A host whose certificate is over, or opens no connection any more, asks for the next; nothing else is needed to be let in.

    The certificate may be over for 30 days. The answer is a ``Certificate``.
    """

    certificate: str
    """PEM: the one that it has."""
    csr: str
    """PEM, PKCS #10, for a new key. Sent again where the answer was lost, so that its key may be on record already."""
    signature: str
    """Of ``csr``, by the key of ``certificate``, in base64 (``keypair.prove``)."""


class Certificate(Body, frozen=True, kw_only=True):
    """What a host shows when it connects."""

    host: str
    certificate: str
    """PEM."""
    ca: str
    """PEM: who signed it, and whom the host trusts."""
    until: datetime
    agents: Sequence[str] = ()
    """Where controllers listen for agents: ``wss://name:port``."""


class RenewRequest(Body, frozen=True, kw_only=True):
    """A host that was away for longer than its certificate lasted asks for another."""

    host: Word
    csr: Writing
    """PEM, PKCS #10, by the new key."""
    signature: Word
    """By the old key over the text of ``csr``, in base64."""


class LoginWays(Body, frozen=True, kw_only=True):
    """How people log in here."""

    password: bool = True
    issuer: str | None = None
    """An OpenID provider; None: there is none."""
    client: str | None = None
    """What the provider calls this site."""


class OidcLogin(Body, frozen=True, kw_only=True):
    """A person for whom an OpenID provider speaks."""

    id_token: Writing


class Login(Body, frozen=True, kw_only=True):
    """A person and a password."""

    name: Word
    password: Sentence


class GrantBody(Body, frozen=True, kw_only=True):
    """A role in a scope."""

    role: Word
    scope: Word


class TokenRequest(Body, frozen=True, kw_only=True):
    """An API token for oneself, which may do less than oneself and not more."""

    name: Word
    days: Days = 90
    grants: Sequence[GrantBody] | None = None
    """None: all that one has."""


class Token(Body, frozen=True, kw_only=True):
    """A token; its secret is told once."""

    id: str
    name: str
    person: str
    expires: datetime
    grants: Sequence[GrantBody]
    secret: str | None = None
    revoked: bool = False


class Tokens(Body, frozen=True, kw_only=True):
    """Tokens, without their secrets."""

    tokens: Sequence[Token]


class Person(Body, frozen=True, kw_only=True):
    """Somebody who may do something."""

    name: str
    grants: Sequence[GrantBody]
    disabled: bool = False
    oidc: str | None = None
    """Issuer and subject, of those who log in elsewhere."""


class People(Body, frozen=True, kw_only=True):
    """People, by name."""

    people: Sequence[Person]


class PersonRequest(Body, frozen=True, kw_only=True):
    """Somebody new, or somebody otherwise."""

    name: Word
    grants: Sequence[GrantBody]
    password: Sentence | None = None
    oidc: Word | None = None
    disabled: bool = False


class AuditRecord(Body, frozen=True, kw_only=True):
    """One entry of the audit log."""

    seq: int
    """Counted from 0."""
    at: datetime
    who: str
    verb: str
    object: str
    scope: str
    outcome: Literal["done", "refused", "failed"]
    detail: Mapping[str, Any] = {}
    leaf: str = ""
    """RFC 6962 leaf hash, in hexadecimal."""


class AuditPage(Body, frozen=True, kw_only=True):
    """Some of the audit log, oldest first."""

    records: Sequence[AuditRecord]
    size: int
    """How many there are in all."""
    after: int | None = None


class Checkpoint(Body, frozen=True, kw_only=True):
    """What the log's tree was, signed."""

    size: int
    root: str
    """In hexadecimal."""
    note: str
    """The signed note, whole."""


class AuditVerifyRequest(Body, frozen=True, kw_only=True):
    """Is the audit log what it was when these checkpoints were signed?"""

    checkpoints: Annotated[Sequence[Sentence], msgspec.Meta(max_length=1000)] = ()
    """Signed notes, whole."""


class AuditVerdict(Body, frozen=True, kw_only=True):
    """What a look at the whole audit log has found."""

    ok: bool
    size: int
    root: str
    """In hexadecimal."""
    faults: Sequence[str] = ()
    """What is wrong, in sentences."""


class Health(Body, frozen=True, kw_only=True):
    """Whether this controller does what it should; each part with a sentence where it does not."""

    ok: bool
    parts: Mapping[str, str]
    """``ok``, or what is wrong and what to do, by part."""
    version: str = ""


class Question(Body, frozen=True, kw_only=True):
    """Can this open a connection to that?"""

    source: Word
    target: Word
    service: Word
    """``tcp/443``."""


class ReachQuestion(Body, frozen=True, kw_only=True):
    """Who can open connections to whom?"""

    source: Word | None = None
    target: Word | None = None


class Answer(Body, frozen=True, kw_only=True):
    """What ``serai can --json`` and its like print."""

    revision: int
    answer: Any
