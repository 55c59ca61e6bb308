"""The tables. Times are text in UTC (RFC 3339, microseconds): they read and sort alike in every engine."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from serai.store.words import Words

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

HEAD: Final = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("hosts", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("checkpoint", Text, nullable=False),
)
"""One row: the latest revision, how often hosts have changed, and the top of the audit log. Who writes locks it first."""

RESOURCES: Final = Table(
    "resources",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

REVISIONS: Final = Table(
    "revisions",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("by", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("digest", Text, nullable=False),
    Column("confirm_by", Text),
    Column("confirmed", Boolean, nullable=False),
    Column("reverts", BigInteger),
    Column("proposal", BigInteger),
    Index("ix_revisions_confirmed", "confirmed"),
)

HISTORY: Final = Table(
    "history",
    METADATA,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("body", Text),
    Column("before", Text),
    Index("ix_history_kind", "kind", "path", "revision"),
)

PROPOSALS: Final = Table(
    "proposals",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("base", BigInteger, nullable=False),
    Column("by", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("needs", Integer, nullable=False),
    Column("approvals", Text, nullable=False),
    Column("writes", Text, nullable=False),
    Column("confirm_seconds", Integer),
)

PEOPLE: Final = Table(
    "people",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("grants", Text, nullable=False),
    Column("password", Text),
    Column("oidc", Words, unique=True),
    Column("disabled", Boolean, nullable=False),
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("person", Words, nullable=False, index=True),
    Column("name", Words, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("grants", Text),
    Column("kind", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

JOIN_TOKENS: Final = Table(
    "join_tokens",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("host", Words, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("expires", Text, nullable=False),
    Column("by", Words, nullable=False),
    Column("used", Text),
)

HOSTS: Final = Table(
    "hosts",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("key_digest", LargeBinary, nullable=False),
    Column("serial", Words, nullable=False),
    Column("previous", Words, nullable=False),
    Column("joined", Text, nullable=False),
    Column("until", Text, nullable=False),
    Column("revoked", Text),
    Column("epoch", BigInteger, nullable=False),
)

STATES: Final = Table(
    "host_states",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("connected", Boolean, nullable=False),
    Column("since", Text),
    Column("agent", Words, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holds", Text),
    Column("wanted", Text),
    Column("revision", BigInteger, nullable=False),
    Column("trouble", Words, nullable=False),
    Column("vnics", Integer, nullable=False),
)

FACTS: Final = Table(
    "host_facts",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("told", Text, nullable=False),
    Column("facts", Text, nullable=False),
)

LEADERS: Final = Table(
    "leaders",
    METADATA,
    Column("shard", Words, primary_key=True),
    Column("term", BigInteger, nullable=False),
    Column("url", Words, nullable=False),
    Column("since", Text, nullable=False),
    Column("compiled", BigInteger, nullable=False),
)

MOVES: Final = Table(
    "moves",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("vm", Words, nullable=False),
    Column("source", Words, nullable=False),
    Column("destination", Words, nullable=False),
    Column("by", Words, nullable=False),
    Column("asked", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("story", Text, nullable=False),
    Column("abort", Words),
    Column("ended", Text),
    Column("receipt", Text),
    Column("audit", BigInteger),
    Column("relocation", Text),
    Index("ix_moves_vm", "vm", "number"),
    Index("ix_moves_relocation", "relocation", "number"),
    Index(
        "uq_moves_open", "vm", unique=True, sqlite_where=text("ended IS NULL"), postgresql_where=text("ended IS NULL")
    ),
)
"""``story`` is what hosts have told so far, ``abort`` who wants it aborted, ``audit`` the record with the receipt, ``relocation`` what it is part of.
Of each VM one is open."""

RELOCATIONS: Final = Table(
    "relocations",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("goal", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("moves", Integer, nullable=False),
    Column("stuck", Integer, nullable=False),
    Column("by", Words, nullable=False),
    Column("asked", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("why", Words, nullable=False),
    Column("stop", Words),
    Column("version", BigInteger, nullable=False),
    Column("ended", Text),
    Index(
        "uq_relocations_open", "state", unique=True,
        sqlite_where=text("ended IS NULL"), postgresql_where=text("ended IS NULL"),
    ),
)  # fmt: skip
"""``moves`` and ``stuck`` count what the plan has, ``stop`` is who wants it stopped. Of those that are open all are in one state: so one is."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", Words, nullable=False),
    Column("who", Words, nullable=False),
    Column("verb", Words, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("ix_audit_scope", "scope", "seq"),
)
"""Scope, who and verb say what the body says, to be looked for; the hash is that of the body, to tell which record was changed."""
