"""People log in: by a password, or by way of an OpenID provider; and get a token for a session."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from serai.access.persons import home
from serai.controller.bearer import Bearer
from serai.controller.callers import Callers
from serai.controller.errors import NotAuthenticatedError, TooMuchError
from serai.controller.oidc import Identity, Oidc
from serai.controller.passwords import Passwords
from serai.controller.peoplestore import Entry, PeopleStore, PersonRecord, TokenRecord
from serai.controller.refusals import Refusals
from serai.controller.throttle import Throttle, neighborhood
from serai.wire import api
from serai.wire.oidc import OidcError

SESSION: Final = timedelta(hours=12)
_WINDOW_SECONDS: Final = 300
_OF_BOTH, _OF_ADDRESS, _OF_NAME = 10, 30, 100
"""So many failures in a window: of a name from an address, of an address, of a name. The last is the largest, so that
one attacker does not keep somebody else out."""


class Logins:
    """Lets people in."""

    def __init__(
        self, store: PeopleStore, *, passwords: Passwords, refusals: Refusals, callers: Callers, changing: asyncio.Lock,
        oidc: Oidc | None = None,
    ) -> None:  # fmt: skip
        """Take what it works with. ``changing``: held by whoever reads a person and then writes them."""
        self._store = store
        self._passwords = passwords
        self._refusals = refusals
        self._callers = callers
        self._changing = changing
        self._oidc = oidc
        self._both = Throttle(limit=_OF_BOTH, seconds=_WINDOW_SECONDS)
        self._addresses = Throttle(limit=_OF_ADDRESS, seconds=_WINDOW_SECONDS)
        self._names = Throttle(limit=_OF_NAME, seconds=_WINDOW_SECONDS)

    async def by_password(self, name: str, password: str, address: str, now: datetime) -> api.Token:
        """Let in a person who knows the password.

        Raises:
            NotAuthenticatedError: the name or the password is wrong, or the person is disabled; it is not told which.
            TooMuchError: too many attempts have failed.
            BusyError: too many people log in at once.
        """
        near = neighborhood(address)
        await self._charge(name, near, now)
        record = await self._store.person(name)
        encoded = record.password if record is not None and not record.disabled else None
        good = await self._passwords.verify(encoded, password)
        if record is None or not good or await self._store.person(name) != record:
            # What is no name may be a password, typed in the wrong place.
            await self._fail(
                name if record is not None else "?", near, {"address": address[:64], "way": "password"}, now
            )
            raise NotAuthenticatedError("the name or the password is wrong")
        self._pay_back(name, near)
        if encoded is not None and self._passwords.is_outdated(encoded):
            await self._rehash(record, password, now)
        return await self._session(record, "password", address, now)

    async def by_oidc(self, id_token: str, secret: str, address: str, now: datetime) -> api.Token:
        """Let in a person for whom the OpenID provider speaks.

        Raises:
            NotAuthenticatedError: it does not, or what it says gives nobody any right here.
            TooMuchError: too many attempts have failed.
        """
        if self._oidc is None:
            raise NotAuthenticatedError("this site has no OpenID provider: log in with a password")
        near = neighborhood(address)
        await self._charge("", near, now)
        try:
            identity = await self._oidc.identify(id_token, secret, now)
            record = await self._known(identity, now)
        except OidcError as error:
            await self._fail("?", near, {"address": address[:64], "way": "oidc", "why": str(error)}, now)
            raise NotAuthenticatedError(str(error)) from error
        self._pay_back("", near)
        return await self._session(record, "oidc", address, now)

    async def _known(self, identity: Identity, now: datetime) -> PersonRecord:
        """Return the person who logs in; those whom only the provider knows are what it says today."""
        async with self._changing:
            record = await self._store.person_by_oidc(identity.oidc)
            if record is not None and "@" not in record.name:
                if record.disabled:
                    raise OidcError(f"{record.name} is disabled here: ask a security-admin")
                return record
            if record is None:
                if not identity.grants:
                    raise OidcError(f"nobody here is {identity.username[:64]!r}: ask a security-admin for an account")
                record = PersonRecord(name=await self._name(identity), grants=(), oidc=identity.oidc)
            if record.disabled:
                raise OidcError(f"{record.name} is disabled here: ask a security-admin")
            if set(record.grants) != set(identity.grants):
                record = dataclasses.replace(record, grants=identity.grants)
                detail = {"grants": list(map(str, identity.grants)), "issuer": identity.issuer}
                entry = Entry(
                    who=record.name, verb="follow-claims", object=f"person {record.name}",
                    scope=home(identity.grants), outcome="done", detail=detail,
                )  # fmt: skip
                await self._store.put_person(record, entry, now)
                self._callers.forget()
            if not record.grants:
                raise OidcError(f"{record.name} has no rights here any more: ask a security-admin")
            return record

    async def _name(self, identity: Identity) -> str:
        """Return a name that nobody has. The ``@`` in it keeps it apart from all names that are given here."""
        plain = re.sub(r"[^a-z0-9._-]+", "-", identity.username.partition("@")[0].lower()).strip("-._")[:32]
        name = f"{plain or 'somebody'}@oidc"
        if await self._store.person(name) is None:
            return name
        return f"{plain or 'somebody'}-{hashlib.sha256(identity.oidc.encode()).hexdigest()[:12]}@oidc"

    async def _session(self, record: PersonRecord, way: str, address: str, now: datetime) -> api.Token:
        bearer = Bearer.new()
        token = TokenRecord(
            id=bearer.id, person=record.name, name="session", secret_digest=bearer.digest, grants=None, kind="session",
            created=now, expires=now + SESSION,
        )  # fmt: skip
        entry = Entry(
            who=record.name, verb="login", object=f"token {bearer.id}", scope=home(record.grants), outcome="done",
            detail={"way": way, "address": address[:64]},
        )  # fmt: skip
        await self._store.add_token(token, entry, now)
        grants = [api.GrantBody(role=grant.role, scope=grant.scope) for grant in record.grants]
        return api.Token(
            id=bearer.id, name=token.name, person=record.name, expires=token.expires, grants=grants, secret=bearer.text
        )

    async def _rehash(self, record: PersonRecord, password: str, now: datetime) -> None:
        encoded = await self._passwords.hash(password)
        async with self._changing:
            # Whoever was changed meanwhile stays as they were changed; the next login comes back to it.
            if await self._store.person(record.name) == record:
                entry = Entry(
                    who=record.name, verb="rehash-password", object=f"person {record.name}", scope=home(record.grants),
                    outcome="done",
                )  # fmt: skip
                await self._store.put_person(dataclasses.replace(record, password=encoded), entry, now)

    async def _charge(self, name: str, near: str, now: datetime) -> None:
        """Count an attempt as failed until it is known better: many at once are counted, too."""
        taken = []
        for throttle, key in self._counters(name, near):
            wait = throttle.take(key, now)
            if wait is None:
                taken.append((throttle, key))
                continue
            for other, counted in taken:
                other.give_back(counted)
            detail = {"address": near, "way": "any", "why": "too many attempts"}
            await self._refusals.tell(_failure("?", detail), near, now)
            raise TooMuchError(f"too many logins have failed: try again in {wait} seconds", retry_seconds=wait)

    def _pay_back(self, name: str, near: str) -> None:
        for throttle, key in self._counters(name, near):
            throttle.give_back(key)

    def _counters(self, name: str, near: str) -> list[tuple[Throttle, str]]:
        digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()  # names may be long
        both = [(self._both, f"{digest} {near}"), (self._names, digest)] if name else []
        return [(self._addresses, near), *both]

    async def _fail(self, who: str, near: str, detail: Mapping[str, Any], now: datetime) -> None:
        await self._refusals.tell(_failure(who, detail), near, now)


def _failure(who: str, detail: Mapping[str, Any]) -> Entry:
    return Entry(who=who, verb="login", object="session", scope="/", outcome="failed", detail=detail)
