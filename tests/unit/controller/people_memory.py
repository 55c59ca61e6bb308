"""A store of people in memory, which the tests beside this file use; and a clock that they turn."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from argon2 import PasswordHasher

from serai.controller.oidc import Oidc
from serai.controller.passwords import Passwords
from serai.controller.people import People
from serai.controller.peoplestore import Entry, PersonRecord, TokenRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Memory:
    """Answers like the store, after a moment in which others get their turn."""

    def __init__(self) -> None:
        self.persons: dict[str, PersonRecord] = {}
        self.all_tokens: dict[str, TokenRecord] = {}
        self.entries: list[Entry] = []
        self.reads = 0

    async def _turn(self) -> None:
        self.reads += 1
        await asyncio.sleep(0)

    async def person(self, name: str) -> PersonRecord | None:
        await self._turn()
        return self.persons.get(name)

    async def person_by_oidc(self, oidc: str) -> PersonRecord | None:
        await self._turn()
        return next((record for record in self.persons.values() if record.oidc == oidc), None)

    async def people(self) -> Sequence[PersonRecord]:
        await self._turn()
        return list(self.persons.values())

    async def put_person(self, record: PersonRecord, entry: Entry, now: datetime) -> None:
        await self._turn()
        self.persons[record.name] = record
        await self.record(entry, now)

    async def token(self, token_id: str) -> TokenRecord | None:
        found = self.all_tokens.get(token_id)
        await self._turn()
        return found

    async def tokens(self, person: str | None) -> Sequence[TokenRecord]:
        await self._turn()
        return [token for token in self.all_tokens.values() if person in (None, token.person)]

    async def add_token(self, record: TokenRecord, entry: Entry, now: datetime) -> None:
        await self._turn()
        self.all_tokens[record.id] = record
        await self.record(entry, now)

    async def revoke_token(self, token_id: str, entry: Entry, now: datetime) -> None:
        await self._turn()
        self.all_tokens[token_id] = dataclasses.replace(self.all_tokens[token_id], revoked=True)
        await self.record(entry, now)

    async def record(self, entry: Entry, now: datetime) -> None:
        assert now.tzinfo is UTC
        self.entries.append(entry)

    @property
    def told(self) -> list[tuple[str, str, str, str]]:
        return [(entry.who, entry.verb, entry.object, entry.outcome) for entry in self.entries]


def quick() -> PasswordHasher:
    """Hashes as fast as it gets."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def people_of(store: Memory, *, oidc: Oidc | None = None, hasher: PasswordHasher | None = None) -> People:
    return People(store, passwords=Passwords(hasher or quick()), oidc=oidc)
