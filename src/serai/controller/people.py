"""People, what they may do, and the tokens by which they are known."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from serai.access.decide import Allowed, Caller, Decision, Refused, Subject, covers, decide, scopes
from serai.access.persons import home, may_manage
from serai.access.roles import Grant, Role
from serai.access.verbs import Verb
from serai.controller import passwords as limits
from serai.controller.bearer import Bearer
from serai.controller.callers import Callers
from serai.controller.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from serai.controller.logins import Logins
from serai.controller.oidc import Oidc
from serai.controller.passwords import Passwords
from serai.controller.peoplestore import Entry, PeopleStore, PersonRecord, TokenRecord
from serai.controller.refusals import Refusals
from serai.model.tenancy import ROOT, Scope
from serai.wire import api

LONGEST_DAYS: Final = 366
"""No token of the API lives longer."""
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
            entry = self._entry("serai", "create-person", f"person {_FIRST}", ROOT, grants=list(map(str, grants)))
            await self._store.put_person(PersonRecord(name=_FIRST, grants=grants), entry, now)
            self._callers.forget()
        return await self._add("serai", _FIRST, "first", grants, None, LONGEST_DAYS, now)

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

    async def refuse(self, who: Caller, verb: Verb, what: Subject, decision: Refused, now: datetime) -> ForbiddenError:
        """Record that something was refused, and return what to raise."""
        entry = Entry(
            who=who.name, verb=verb, object=what.kind or "", scope=what.scope, outcome="refused",
            detail={"why": decision.why, "token": who.token},
        )  # fmt: skip
        await self._refusals.tell(entry, who.name, now)
        return ForbiddenError(decision.why)

    async def tick(self, now: datetime, *, last: bool = False) -> None:
        """Record how many refusals were only counted, once a minute; call it now and then, and with ``last`` at the end."""
        await self._refusals.flush(now, force=last)

    async def whoami(self, who: Caller) -> api.Person:
        """Say who somebody is, and what their token lets them do."""
        record = await self._store.person(who.name)
        grants = who.grants if who.within is None else who.within
        return api.Person(name=who.name, grants=_bodies(grants), oidc=record.oidc if record else None)

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
                found.append(api.Person(name=record.name, grants=_bodies(grants), disabled=record.disabled, oidc=oidc))
        return found

    async def put_person(self, who: Caller, body: api.PersonRequest, now: datetime) -> api.Person:
        """Make somebody, or make them otherwise; a password or an OpenID subject that is not given stays as it was.

        Raises:
            ForbiddenError: ``who`` would give away, or take over, more than they have.
            InvalidError: a name, a grant or the password is none.
            ConflictError: nobody could manage people any more, or the subject is somebody else's already.
        """
        grants = _grants(body.grants)
        self._check_password(body.password)
        encoded = None if body.password is None else await self._passwords.hash(body.password)
        async with self._changing:
            before = await self._store.person(body.name)
            if before is None and (_NAME.fullmatch(body.name) is None or body.name in _RESERVED):
                raise _invalid(
                    "name", f"{body.name[:80]!r} is no name for a person: write letters, digits, '.', '_' and '-'"
                )
            after = PersonRecord(
                name=body.name,
                grants=grants,
                password=encoded or (before.password if before else None),
                oidc=body.oidc or (before.oidc if before else None),
                disabled=body.disabled,
            )
            decision = _may_put(who, before, after)
            if isinstance(decision, Refused):
                raise await self.refuse(who, Verb.MANAGE_PEOPLE, Subject(scope=home(grants)), decision, now)
            await self._check_sound(before, after)
            verb = "create-person" if before is None else "change-person"
            entry = self._entry(
                who.name, verb, f"person {after.name}", home((*grants, *(before.grants if before else ()))),
                grants=list(map(str, grants)), was=list(map(str, before.grants)) if before else [],
                disabled=after.disabled, password=encoded is not None, oidc=after.oidc or "", token=who.token,
            )  # fmt: skip
            await self._store.put_person(after, entry, now)
            self._callers.forget()
        if before is not None and (encoded is not None or after.disabled):
            await self._end_sessions(who, after, now)
        return api.Person(name=after.name, grants=_bodies(grants), disabled=after.disabled, oidc=after.oidc)

    async def tokens(self, who: Caller) -> list[api.Token]:
        """List one's own tokens, the latest first."""
        mine = sorted(await self._store.tokens(who.name), key=lambda token: token.created, reverse=True)
        return [_shown(token, who.grants) for token in mine]

    async def add_token(self, who: Caller, body: api.TokenRequest, now: datetime) -> api.Token:
        """Make a token for oneself; its secret is told here and never again.

        Raises:
            ForbiddenError: it would do more than its owner, or is asked for with a token that is limited itself.
            InvalidError: a grant is none, or it would live too long.
        """
        wanted = None if body.grants is None else _grants(body.grants)
        if not 1 <= body.days <= LONGEST_DAYS:
            raise _invalid("days", f"must be 1 to {LONGEST_DAYS}, not {body.days}")
        what = Subject(scope=home(who.grants if wanted is None else wanted))
        decision = _may_add(who, wanted)
        if isinstance(decision, Refused):
            raise await self.refuse(who, Verb.MANAGE_TOKENS, what, decision, now)
        return await self._add(who.name, who.name, body.name, who.grants, wanted, body.days, now)

    async def revoke_token(self, who: Caller, token_id: str, now: datetime) -> None:
        """Make a token worthless at once: one's own, or that of somebody whom one may manage.

        Raises:
            NotFoundError: there is none, or it is nobody's whom ``who`` may manage.
        """
        token = await self._store.token(token_id)
        owner = await self._store.person(token.person) if token is not None else None
        if token is None or owner is None or (
            owner.name != who.name and isinstance(may_manage(who, owner.name, owner.grants, owner.grants), Refused)
        ):  # fmt: skip
            raise NotFoundError(f"you can revoke no token {token_id[:64]!r}: see 'serai token list'")
        if not token.revoked:
            await self._revoke(who, owner, token, now)

    async def _end_sessions(self, who: Caller, person: PersonRecord, now: datetime) -> None:
        for token in await self._store.tokens(person.name):
            if token.kind == "session" and not token.revoked and token.expires > now:
                await self._revoke(who, person, token, now)

    async def _revoke(self, who: Caller, owner: PersonRecord, token: TokenRecord, now: datetime) -> None:
        entry = self._entry(
            who.name, "revoke-token", f"token {token.id}", home(owner.grants), person=owner.name, token=who.token
        )
        await self._store.revoke_token(token.id, entry, now)
        self._callers.forget()

    async def _add(
        self, by: str, person: str, name: str, grants: Sequence[Grant], within: tuple[Grant, ...] | None, days: int, now: datetime
    ) -> api.Token:  # fmt: skip
        bearer = Bearer.new()
        record = TokenRecord(
            id=bearer.id, person=person, name=name, secret_digest=bearer.digest, grants=within, kind="api", created=now,
            expires=now + timedelta(days=days),
        )  # fmt: skip
        limited = None if within is None else list(map(str, within))
        entry = self._entry(
            by, "create-token", f"token {bearer.id}", home(grants), person=person, name=name, grants=limited
        )
        await self._store.add_token(record, entry, now)
        return _shown(record, grants, secret=bearer.text)

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
        if password is not None and not limits.SHORTEST <= len(password) <= limits.LONGEST:
            raise _invalid("password", f"must have {limits.SHORTEST} to {limits.LONGEST} characters")

    @staticmethod
    def _entry(who: str, verb: str, what: str, scope: Scope, **detail: object) -> Entry:
        return Entry(who=who, verb=verb, object=what, scope=scope, outcome="done", detail=detail)


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


def _refused(decision: Decision) -> Refused:
    return decision if isinstance(decision, Refused) else Refused(why="this may be seen nowhere")


def _rules(record: PersonRecord) -> bool:
    """Say whether somebody can make people in ``/``."""
    return Grant(Role.SECURITY_ADMIN, ROOT) in record.grants and not record.disabled


def _grants(bodies: Sequence[api.GrantBody]) -> tuple[Grant, ...]:
    found, faults = [], []
    for number, body in enumerate(bodies):
        try:
            found.append(Grant.read(f"{body.role}:{body.scope}"))
        except ValueError as error:
            faults.append(api.Fault(where=f"grants[{number}]", field=f"grants[{number}]", message=str(error)))
    if faults:
        raise InvalidError(faults[0].message, faults=faults)
    return tuple(dict.fromkeys(found))


def _bodies(grants: Iterable[Grant]) -> list[api.GrantBody]:
    return [api.GrantBody(role=grant.role, scope=grant.scope) for grant in grants]


def _shown(token: TokenRecord, grants: Sequence[Grant], *, secret: str | None = None) -> api.Token:
    return api.Token(
        id=token.id, name=token.name, person=token.person, expires=token.expires, revoked=token.revoked,
        grants=_bodies(grants if token.grants is None else token.grants), secret=secret,
    )  # fmt: skip


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", faults=[api.Fault(where=field, field=field, message=message)])
