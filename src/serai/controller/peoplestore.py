"""What the service of people needs from the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from serai.store.records import Entry, PersonRecord, TokenRecord

__all__ = ["Entry", "PeopleStore", "PersonRecord", "TokenRecord", "done"]


class PeopleStore(Protocol):
    """Keeps people and tokens. What changes something records its entry in the same transaction."""

    async def person(self, name: str) -> PersonRecord | None:
        """Return the person of that name."""
        ...

    async def person_by_oidc(self, oidc: str) -> PersonRecord | None:
        """Return the person for whom that subject of that issuer stands."""
        ...

    async def people(self) -> Sequence[PersonRecord]:
        """Return everybody."""
        ...

    async def put_person(self, record: PersonRecord, entry: Entry, now: datetime) -> None:
        """Make somebody so."""
        ...

    async def token(self, token_id: str) -> TokenRecord | None:
        """Return the token of that id."""
        ...

    async def tokens(self, person: str | None) -> Sequence[TokenRecord]:
        """Return the tokens of one person, or all."""
        ...

    async def add_token(self, record: TokenRecord, entry: Entry, now: datetime) -> None:
        """Take in a token."""
        ...

    async def revoke_token(self, token_id: str, entry: Entry, now: datetime) -> None:
        """Make a token worthless."""
        ...

    async def record(self, entry: Entry, now: datetime) -> None:
        """Record an act that changes nothing else."""
        ...


def done(who: str, verb: str, what: str, scope: str, /, **detail: object) -> Entry:
    """Return what the audit log is to say of an act that is done."""
    return Entry(who=who, verb=verb, object=what, scope=scope, outcome="done", detail=detail)
