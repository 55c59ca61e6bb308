"""People, what they may do, and the tokens by which they are known."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import datetime
from typing import Final

from serai.access.decide import Allowed, Caller, Decision, Refused, Subject, decide, scopes
from serai.access.persons import home, may_manage
from serai.access.roles import Grant, Role
from serai.access.verbs import Verb
from serai.controller.callers import Callers
from serai.controller.errors import ConflictError, ForbiddenError
from serai.controller.logins import Logins
from serai.controller.oidc import Oidc
from serai.controller.passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, Passwords
from serai.controller.peoplestore import PeopleStore, PersonRecord, done
from serai.controller.refusals import Refusals
from serai.controller.requests import invalid, read_grants, told_grants
from serai.controller.tokens import Tokens
from serai.model.tenancy import ROOT
from serai.wire import api

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII)
_RESERVED: Final = frozenset({"serai", "system", "nobody", "anybody"})
_FIRST: Final = "admin"


class People:
    """What the HTTP API asks about people. Every change is audited with it, every refusal too."""

    def __init__(self, store: PeopleStore, *, passwords: Passwords, oidc: Oidc | None = None) -> None:
        """Keep everybody in ``store``; nothing is read yet."""
        self._store = store
        self._passwords = passwords
        self._oidc = oidc
        self._callers = Callers(store)
        self._refusals = Refusals(store)
        self._changing = asyncio.Lock()
        self._tokens = Tokens(store, callers=self._callers, refusals=self._refusals)
        self._logins = Logins(
            store,
            passwords=passwords,
            refusals=self._refusals,
            callers=self._callers,
            changing=self._changing,
            oidc=oidc,
        )

    async def bootstrap(self, now: datetime) -> api.Token | None:
        """Make the first person, ``admin``, and a token for them, where there is nobody yet; None: there is somebody."""
        async with self._changing:
            if await self._store.people():
                return None
            grants = tuple(Grant(role, ROOT) for role in (Role.SECURITY_ADMIN, Role.AUDITOR, Role.OPERATOR))
            entry = done("serai", "create-person", f"person {_FIRST}", ROOT, grants=list(map(str, grants)))
            await self._store.put_person(PersonRecord(name=_FIRST, grants=grants), entry, now)
            self._callers.forget()
        return await self._tokens.first(_FIRST, grants, now)

    async def authenticate(self, bearer: str, now: datetime) -> Caller | None:
        """Say who shows ``bearer``, with the grants that they have now; None: nobody who may do anything."""
        return await self._callers.authenticate(bearer, now)

    def login_ways(self) -> tuple[str, str] | None:
        """Return issuer and client of the OpenID provider by which people log in here; None: there is none."""
        return None if self._oidc is None else (self._oidc.settings.issuer, self._oidc.settings.client_id)

    async def login(self, body: api.Login, address: str, now: datetime) -> api.Token:
        """Give a person who knows the password a token for a session. ``address``: where they call from.

        Raises:
            NotAuthenticatedError: the name or the password is wrong.
            TooMuchError: too many attempts have failed.
            BusyError: too many people log in at once.
        """
        return await self._logins.by_password(body.name, body.password, address, now)

    async def login_oidc(self, id_token: str, secret: str, address: str, now: datetime) -> api.Token:
        """Do the same for somebody for whom the OpenID provider speaks; the token's nonce is the hash of ``secret``.

        Raises:
            NotAuthenticatedError: it does not, or what it says gives nobody any right here.
            TooMuchError: too many attempts have failed.
        """
        return await self._logins.by_oidc(id_token, secret, address, now)

    async def refuse(
        self, who: Caller, verb: Verb, what: Subject, decision: Refused, now: datetime, *, about: str = ""
    ) -> ForbiddenError:  # fmt: skip
        """Record that something was refused, and return what to raise. ``about``: a name, such as ``Policy /acme:shop``."""
        return await self._refusals.refuse(who, verb, what, decision, now, about=about)

    async def tick(self, now: datetime, *, last: bool = False) -> None:
        """Record how many refusals were only counted, once a minute; call it now and then, and with ``last`` at the end."""
        await self._refusals.flush(now, force=last)

    async def whoami(self, who: Caller) -> api.Person:
        """Say who somebody is, and what their token lets them do."""
        record = await self._store.person(who.name)
        grants = who.grants if who.within is None else who.within
        return api.Person(name=who.name, grants=told_grants(grants), oidc=record.oidc if record else None)

    async def people(self, who: Caller, now: datetime) -> list[api.Person]:
        """List people by name, as far as they may do something where ``who`` may know about it.

        Raises:
            ForbiddenError: that is nowhere.
        """
        seen = scopes(who, Verb.READ_PEOPLE)
        if not seen:
            what = Subject(scope=home(who.grants))
            decision = decide(who, Verb.READ_PEOPLE, what)
            raise await self.refuse(who, Verb.READ_PEOPLE, what, _refused(decision), now)
        found = []
        for record in sorted(await self._store.people(), key=lambda each: each.name):
            grants = [grant for grant in record.grants if any(scope.contains(grant.scope) for scope in seen)]
            if grants or ROOT in seen:
                oidc = record.oidc if len(grants) == len(record.grants) else None
                found.append(
                    api.Person(name=record.name, grants=told_grants(grants), disabled=record.disabled, oidc=oidc)
                )
        return found

    async def put_person(self, who: Caller, body: api.PersonRequest, now: datetime) -> api.Person:
        """Make somebody, or make them otherwise; a password or an OpenID subject that is not given stays as it was.

        A subject of ``""`` takes it away. A new password ends the sessions of whoever has it.

        Raises:
            ForbiddenError: ``who`` would give away, or take over, more than they have.
            InvalidError: a name, a grant or the password is none.
            ConflictError: nobody could manage people any more, or the subject is somebody else's already.
        """
        grants = read_grants(body.grants)
        self._check_password(body.password)
        async with self._changing:
            before = await self._store.person(body.name)
            if before is None and (_NAME.fullmatch(body.name) is None or body.name in _RESERVED):
                raise invalid(
                    "name", f"{body.name[:80]!r} is no name for a person: write letters, digits, '.', '_' and '-'"
                )
            kept = before or PersonRecord(name=body.name, grants=())
            oidc = kept.oidc if body.oidc is None else body.oidc or None
            after = dataclasses.replace(kept, grants=grants, oidc=oidc, disabled=body.disabled)
            decision = _may_put(who, before, after)
            if isinstance(decision, Refused):
                what = Subject(scope=home((*grants, *kept.grants)))
                raise await self.refuse(who, Verb.MANAGE_PEOPLE, what, decision, now, about=f"person {body.name[:64]}")
            await self._check_sound(before, after)
            if body.password is not None:
                after = dataclasses.replace(after, password=await self._passwords.hash(body.password))
            verb = "create-person" if before is None else "change-person"
            entry = done(
                who.name, verb, f"person {after.name}", home((*grants, *kept.grants)),
                grants=list(map(str, grants)), was=list(map(str, kept.grants)),
                disabled=after.disabled, password=body.password is not None, oidc=after.oidc or "", token=who.token,
            )  # fmt: skip
            await self._store.put_person(after, entry, now)
            self._callers.forget()
        if before is not None and (body.password is not None or after.disabled):
            await self._tokens.end_sessions(who, after, now)
        return api.Person(name=after.name, grants=told_grants(grants), disabled=after.disabled, oidc=after.oidc)

    async def tokens(self, who: Caller) -> list[api.Token]:
        """List one's own tokens, the latest first."""
        return await self._tokens.mine(who)

    async def add_token(self, who: Caller, body: api.TokenRequest, now: datetime) -> api.Token:
        """Make a token for oneself; its secret is told here and never again.

        Raises:
            ForbiddenError: it would do more than its owner, or is asked for with a token that is limited itself.
            InvalidError: a grant is none, or it would live too long.
        """
        return await self._tokens.add(who, body, now)

    async def revoke_token(self, who: Caller, token_id: str, now: datetime) -> None:
        """Make a token worthless at once: one's own, or that of somebody whom one may manage.

        Raises:
            NotFoundError: there is none, or it is nobody's whom ``who`` may manage.
        """
        await self._tokens.revoke(who, token_id, now)

    async def _check_sound(self, before: PersonRecord | None, after: PersonRecord) -> None:
        everybody = await self._store.people()
        others = [record for record in everybody if record.name != after.name]
        if after.oidc is not None and any(record.oidc == after.oidc for record in others):
            raise ConflictError("that OpenID subject is somebody else's here already")
        if before is not None and _rules(before) and not any(map(_rules, (after, *others))):
            raise ConflictError(
                f"{after.name} is the last who may manage people in /: make another security-admin first"
            )

    @staticmethod
    def _check_password(password: str | None) -> None:
        if password is not None and not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise invalid("password", f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")


def _may_put(who: Caller, before: PersonRecord | None, after: PersonRecord) -> Decision:
    """Say whether ``who`` may make ``after`` of ``before``. One's own password everybody sets, but not with a limited token."""
    same = before is not None and (before.grants, before.oidc, before.disabled) == (
        after.grants,
        after.oidc,
        after.disabled,
    )
    if same and who.name == after.name and who.within is None:
        return Allowed()
    return may_manage(who, after.name, None if before is None else before.grants, after.grants)


def _refused(decision: Decision) -> Refused:
    return decision if isinstance(decision, Refused) else Refused(why="this may be seen nowhere")


def _rules(record: PersonRecord) -> bool:
    """Say whether somebody can make people in ``/``."""
    return Grant(Role.SECURITY_ADMIN, ROOT) in record.grants and not record.disabled
