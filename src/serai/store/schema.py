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
    String,
    Table,
    Text,
)

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
    Column("kind", String(64), primary_key=True),
    Column("path", String(256), primary_key=True),
    Column("body", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

REVISIONS: Final = Table(
    "revisions",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("by", String(256), nullable=False),
    Column("message", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("confirm_by", String(32)),
    Column("confirmed", Boolean, nullable=False),
    Column("reverts", BigInteger),
    Column("proposal", BigInteger),
    Index("ix_revisions_confirmed", "confirmed"),
)

HISTORY: Final = Table(
    "history",
    METADATA,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True),
    Column("kind", String(64), primary_key=True),
    Column("path", String(256), primary_key=True),
    Column("body", Text),
    Column("before", Text),
    Index("ix_history_kind", "kind", "path", "revision"),
)

PROPOSALS: Final = Table(
    "proposals",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("base", BigInteger, nullable=False),
    Column("by", String(256), nullable=False),
    Column("message", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("needs", Integer, nullable=False),
    Column("approvals", Text, nullable=False),
    Column("writes", Text, nullable=False),
    Column("confirm_seconds", Integer),
)

PEOPLE: Final = Table(
    "people",
    METADATA,
    Column("name", String(256), primary_key=True),
    Column("grants", Text, nullable=False),
    Column("password", Text),
    Column("oidc", String(1024), unique=True),
    Column("disabled", Boolean, nullable=False),
)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("person", String(256), nullable=False, index=True),
    Column("name", String(512), nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("grants", Text),
    Column("kind", String(16), nullable=False),
    Column("created", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
    Column("revoked", Boolean, nullable=False),
)

JOIN_TOKENS: Final = Table(
    "join_tokens",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("host", String(64), nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("expires", String(32), nullable=False),
    Column("by", String(256), nullable=False),
    Column("used", String(32)),
)

HOSTS: Final = Table(
    "hosts",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("key_digest", LargeBinary, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("joined", String(32), nullable=False),
    Column("until", String(32), nullable=False),
    Column("revoked", String(32)),
    Column("epoch", BigInteger, nullable=False),
)

STATES: Final = Table(
    "host_states",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("connected", Boolean, nullable=False),
    Column("since", String(32)),
    Column("agent", String(4096), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holds", String(64)),
    Column("wanted", String(64)),
    Column("revision", BigInteger, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("vnics", Integer, nullable=False),
)

LEADERS: Final = Table(
    "leaders",
    METADATA,
    Column("shard", String(64), primary_key=True),
    Column("term", BigInteger, nullable=False),
    Column("url", String(512), nullable=False),
    Column("since", String(32), nullable=False),
    Column("compiled", BigInteger, nullable=False),
)

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("scope", String(256), nullable=False, index=True),
    Column("who", String(256), nullable=False),
    Column("verb", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
