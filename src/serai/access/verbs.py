"""What people do to a controller, as far as rights tell it apart."""

from __future__ import annotations

import enum


class Verb(enum.StrEnum):
    """One thing that somebody may or may not do."""

    READ = "read"
    """Look at resources, revisions and proposals."""
    WATCH = "watch"
    """Be told of changes as they are made."""
    PLAN = "plan"
    """Ask what a change would do; nothing is done."""
    ASK = "ask"
    """Ask who reaches whom, and why."""
    WRITE = "write"
    """Create or change a resource."""
    DELETE = "delete"
    ROLLBACK = "rollback"
    """Make resources what they were: a write of each."""
    APPROVE = "approve"
    """Stand behind somebody else's change, or reject it."""
    CONFIRM = "confirm"
    """Let a change stand that would be rolled back by itself."""
    READ_HOSTS = "read-hosts"
    JOIN_HOST = "join-host"
    REVOKE_HOST = "revoke-host"
    MOVE = "move"
    """Have a VM moved to another host, or such a move aborted: which hosts there are is the provider's matter."""
    READ_AUDIT = "read-audit"
    """Read, verify and export the audit log; all of it takes the scope ``/``."""
    READ_PEOPLE = "read-people"
    MANAGE_PEOPLE = "manage-people"
    """Make people, change what they may, revoke their tokens."""
    MANAGE_TOKENS = "manage-tokens"
    """Make and revoke tokens of one's own."""
    READ_METRICS = "read-metrics"
    BACKUP = "backup"
    """Take all that there is away in a file: secrets' digests too."""
