"""Tokens of the API: people make them for themselves, and they do no more than their owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from serai.access.decide import Allowed, Caller, Decision, Refused, Subject, covers, decide
from serai.access.persons import home, may_manage
from serai.access.roles import Grant
from serai.access.verbs import Verb
from serai.controller.bearer import Bearer
from serai.controller.callers import Callers
from serai.controller.errors import NotFoundError
from serai.controller.peoplestore import PeopleStore, PersonRecord, TokenRecord, done
from serai.controller.refusals import Refusals
from serai.controller.requests import invalid, read_grants, told_grants
from serai.wire import api

LONGEST_DAYS: Final = 366
"""No token of the API lives longer."""


class Tokens:
    """Makes tokens, and makes them worthless."""

    def __init__(self, store: PeopleStore, *, callers: Callers, refusals: Refusals) -> None:
        """Keep them in ``store``, and tell ``callers`` when one is worth nothing any more."""
        self._store = store
        self._callers = callers
        self._refusals = refusals

    async def first(self, person: str, grants: Sequence[Grant], now: datetime) -> api.Token:
        """Make a token for the first person."""
        record, shown = _made(person, "first", grants, now, days=LONGEST_DAYS)
        entry = done("serai", "create-token", f"token {record.id}", home(grants), person=person)
        await self._store.add_token(record, entry, now)
        return shown

    async def mine(self, who: Caller) -> list[api.Token]:
        """List one's own tokens, the latest first."""
        mine = sorted(await self._store.tokens(who.name), key=lambda token: token.created, reverse=True)
        return [_shown(token, who.grants) for token in mine]

    async def add(self, who: Caller, body: api.TokenRequest, now: datetime) -> api.Token:
        """Make a token for oneself.

        Raises:
            ForbiddenError: it would do more than its owner, or is asked for with a token that is limited itself.
            InvalidError: a grant is none, or it would live too long.
        """
        wanted = None if body.grants is None else read_grants(body.grants)
        if not 1 <= body.days <= LONGEST_DAYS:
            raise invalid("days", f"must be 1 to {LONGEST_DAYS}, not {body.days}")
        scope = home(who.grants if wanted is None else wanted)
        decision = _may_add(who, wanted)
        if isinstance(decision, Refused):
            raise await self._refusals.refuse(who, Verb.MANAGE_TOKENS, Subject(scope=scope), decision, now)
        record, shown = _made(who.name, body.name, who.grants, now, days=body.days, within=wanted)
        entry = done(
            who.name, "create-token", f"token {record.id}", scope, name=body.name, token=who.token,
            grants=None if wanted is None else list(map(str, wanted)), expires=record.expires.isoformat(),
        )  # fmt: skip
        await self._store.add_token(record, entry, now)
        return shown

    async def revoke(self, who: Caller, token_id: str, now: datetime) -> None:
        """Make a token worthless at once: one's own, or that of somebody whom one may manage.

        Raises:
            NotFoundError: there is none, or it is nobody's whom ``who`` may manage.
        """
        token = await self._store.token(token_id)
        owner = await self._store.person(token.person) if token is not None else None
        if token is None or owner is None or not _may_revoke(who, owner):
            raise NotFoundError(f"you can revoke no token {token_id[:64]!r}: look into the list of your tokens")
        if not token.revoked:
            await self._revoke(who, owner, token, now)

    async def end_sessions(self, who: Caller, person: PersonRecord, now: datetime) -> None:
        """Make all sessions of a person worthless, but for the one in which that is asked for."""
        for token in await self._store.tokens(person.name):
            if token.kind == "session" and not token.revoked and token.expires > now and token.id != who.token:
                await self._revoke(who, person, token, now)

    async def _revoke(self, who: Caller, owner: PersonRecord, token: TokenRecord, now: datetime) -> None:
        entry = done(
            who.name, "revoke-token", f"token {token.id}", home(owner.grants), person=owner.name, token=who.token
        )
        await self._store.revoke_token(token.id, entry, now)
        self._callers.forget()


def _may_add(who: Caller, wanted: tuple[Grant, ...] | None) -> Decision:
    if who.within is not None:
        return Refused(why=f"this token of {who.name} is limited and makes no others: log in, or use one that is not")
    for grant in who.grants if wanted is None else wanted:
        decision = decide(who, Verb.MANAGE_TOKENS, Subject(scope=grant.scope))
        if isinstance(decision, Refused):
            return decision
        if not covers(who, grant):
            return Refused(why=f"{who.name} may not have a token for what they may not do themselves: {grant}")
    return Allowed()


def _may_revoke(who: Caller, owner: PersonRecord) -> bool:
    mine = owner.name == who.name
    return mine or isinstance(may_manage(who, owner.name, owner.grants, owner.grants), Allowed)


def _made(
    person: str, name: str, grants: Sequence[Grant], now: datetime, *, days: int, within: tuple[Grant, ...] | None = None
) -> tuple[TokenRecord, api.Token]:  # fmt: skip
    bearer = Bearer.new()
    record = TokenRecord(
        id=bearer.id, person=person, name=name, secret_digest=bearer.digest, grants=within, kind="api", created=now,
        expires=now + timedelta(days=days),
    )  # fmt: skip
    return record, _shown(record, grants, secret=bearer.text)


def _shown(token: TokenRecord, grants: Sequence[Grant], *, secret: str | None = None) -> api.Token:
    return api.Token(
        id=token.id, name=token.name, person=token.person, expires=token.expires, revoked=token.revoked,
        grants=told_grants(grants if token.grants is None else token.grants), secret=secret,
    )  # fmt: skip
