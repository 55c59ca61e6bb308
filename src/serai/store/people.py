"""People and their tokens."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from serai.access.roles import Grant
from serai.store import times
from serai.store.errors import PersonError
from serai.store.ledger import Ledger, whole
from serai.store.records import Entry, PersonRecord, TokenRecord
from serai.store.schema import PEOPLE, TOKENS


class Whatever(enum.Enum):
    """Stands for any record, or none."""

    IT_WAS = enum.auto()


class People:
    """Who may do something, and by which tokens they are known."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep them there."""
        self._ledger = ledger

    @whole
    async def person(self, name: str) -> PersonRecord | None:
        """Return the person of that name."""
        return next(iter(await self._people(PEOPLE.c.name == name)), None)

    @whole
    async def person_by_oidc(self, oidc: str) -> PersonRecord | None:
        """Return the person for whom that subject of that issuer stands."""
        return next(iter(await self._people(PEOPLE.c.oidc == oidc)), None)

    @whole
    async def people(self) -> Sequence[PersonRecord]:
        """Return everybody, by name."""
        return sorted(await self._people(sa.true()), key=lambda person: person.name)

    async def _people(self, which: sa.ColumnElement[bool]) -> list[PersonRecord]:
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(PEOPLE).where(which))
            return [
                PersonRecord(
                    name=row.name, grants=_read(row.grants), password=row.password, oidc=row.oidc, disabled=row.disabled
                )
                for row in rows
            ]

    @whole
    async def put_person(
        self,
        record: PersonRecord,
        entry: Entry,
        now: datetime,
        *,
        was: PersonRecord | Whatever | None = Whatever.IT_WAS,
    ) -> None:
        """Make somebody so.

        Args:
            record: who they are from now on.
            entry: what the audit log says of it.
            now: the time.
            was: who they must be until now; None: nobody.

        Raises:
            PersonError: they are not who they must be, or another person has that OpenID subject.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            row = (await act.connection.execute(sa.select(PEOPLE).where(PEOPLE.c.name == record.name))).first()
            if was is not Whatever.IT_WAS and (row._asdict() if row else None) != (_columns(was) if was else None):
                raise PersonError(f"{record.name} was changed meanwhile: look again, then do it again")
            others = sa.select(PEOPLE.c.name).where(
                PEOPLE.c.oidc.is_not(None), PEOPLE.c.oidc == record.oidc, PEOPLE.c.name != record.name
            )
            if (other := (await act.connection.execute(others)).scalar()) is not None:
                raise PersonError(f"{other} logs in as that OpenID subject already: take it from them first")
            await act.connection.execute(sa.delete(PEOPLE).where(PEOPLE.c.name == record.name))
            await act.connection.execute(sa.insert(PEOPLE).values(_columns(record)))

    @whole
    async def token(self, token_id: str) -> TokenRecord | None:
        """Return the token of that id."""
        return next(iter(await self._tokens(TOKENS.c.id == token_id)), None)

    @whole
    async def tokens(self, person: str | None) -> Sequence[TokenRecord]:
        """Return the tokens of one person, or all; the oldest first."""
        found = await self._tokens(sa.true() if person is None else TOKENS.c.person == person)
        return sorted(found, key=lambda token: (token.created, token.id))

    async def _tokens(self, which: sa.ColumnElement[bool]) -> list[TokenRecord]:
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(TOKENS).where(which))
            return [
                TokenRecord(
                    id=row.id, person=row.person, name=row.name, secret_digest=row.secret_digest,
                    grants=None if row.grants is None else _read(row.grants), kind=row.kind,
                    created=times.read(row.created), expires=times.read(row.expires), revoked=row.revoked,
                )
                for row in rows
            ]  # fmt: skip

    @whole
    async def add_token(self, record: TokenRecord, entry: Entry, now: datetime) -> None:
        """Take in a token.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await act.connection.execute(
                sa.insert(TOKENS).values(
                    id=record.id, person=record.person, name=record.name, secret_digest=record.secret_digest,
                    grants=None if record.grants is None else _written(record.grants), kind=record.kind,
                    created=times.write(record.created), expires=times.write(record.expires), revoked=record.revoked,
                )
            )  # fmt: skip

    @whole
    async def revoke_token(self, token_id: str, entry: Entry, now: datetime) -> None:
        """Make a token worthless.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await act.connection.execute(sa.update(TOKENS).where(TOKENS.c.id == token_id).values(revoked=True))

    @whole
    async def record(self, entry: Entry, now: datetime) -> None:
        """Record an act that changes nothing.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now):
            pass


def _columns(person: PersonRecord) -> dict[str, object]:
    return {
        "name": person.name, "grants": _written(person.grants), "password": person.password, "oidc": person.oidc,
        "disabled": person.disabled,
    }  # fmt: skip


def _read(grants: str) -> tuple[Grant, ...]:
    return tuple(Grant.read(text) for text in json.loads(grants))


def _written(grants: Iterable[Grant]) -> str:
    return json.dumps([str(grant) for grant in grants])
