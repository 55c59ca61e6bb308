"""Hosts: who may join, who is in, and what each holds."""

from __future__ import annotations

import base64
import dataclasses
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.errors import NotFoundError
from serai.controller.requests import invalid
from serai.controller.shard import Shard
from serai.controller.views import require
from serai.model.tenancy import ROOT, is_name
from serai.store.errors import JoinError
from serai.store.records import Entry, HostState, JoinTokenRecord
from serai.store.store import Store
from serai.wire import api
from serai.wire.jointoken import JoinToken, JoinTokenError
from serai.wire.keypair import PkiError
from serai.wire.pki import Authority, ca_hash, identity_of, proven, read_certificate

JOIN_LIFE: Final = timedelta(minutes=15)
"""How long a token that lets a host join is good."""
_POLL_SECONDS: Final = 0.2
_NOBODY: Final = HostState(
    name="", connected=False, since=None, agent="", epoch=0, holds=None, wanted=None, revision=0, trouble="", vnics=0
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    """A certificate that has been signed."""

    host: str
    pem: str
    serial: str
    key: bytes
    until: datetime


class Hosts:
    """The hosts of the site."""

    def __init__(
        self,
        store: Store,
        current: Current,
        shard: Shard,
        authority: Authority,
        *,
        agents: Sequence[str],
        clock: Callable[[], datetime],
    ) -> None:
        """``authority`` signs their certificates; ``agents`` is where controllers listen for them."""
        self._store, self._current, self._shard, self._authority = store, current, shard, authority
        self._agents, self._clock = tuple(agents), clock

    # Joining

    async def token(self, who: Caller, request: api.JoinTokenRequest) -> api.JoinToken:
        """Let a host join, once and soon.

        Raises:
            ForbiddenError: this person may not.
            InvalidError: no host can be called so.
        """
        require(who, Verb.JOIN_HOST)
        if not is_name(request.host):
            raise invalid("host", f"{request.host!r} is no name of a host: use lower-case letters, digits and '-'")
        now = self._clock()
        token = JoinToken(id=secrets.token_hex(8), secret=secrets.token_bytes(32), ca_hash=ca_hash(self._authority.pem))
        record = JoinTokenRecord(
            id=token.id, host=request.host, secret_digest=token.secret_digest, expires=now + JOIN_LIFE, by=who.name
        )
        await self._store.hosts.add_join_token(record, _entry(who.name, "let a host join", request.host), now)
        return api.JoinToken(token=str(token), host=request.host, expires=record.expires)

    async def join(self, request: api.JoinRequest) -> api.Certificate:
        """Take a host in.

        Raises:
            JoinError: its token is none, or no longer one, or is for another host.
            InvalidError: what it wants signed is no request for a certificate.
        """
        try:
            token = JoinToken.parse(request.token)
        except JoinTokenError as error:
            raise invalid("token", str(error)) from error
        now = self._clock()
        host = await self._store.hosts.may_join(token.id, token.secret_digest, now)
        if request.host != host:
            raise JoinError(
                f"this token is for host {host}, and this host is called {request.host}: join with '--host {host}'"
            )
        issued = self._issue(request.csr, host, now)
        entry = _entry(f"host {host}", "join", host, serial=issued.serial)
        await self._store.hosts.join(
            token.id,
            token.secret_digest,
            key_digest=issued.key,
            serial=issued.serial,
            until=issued.until,
            entry=entry,
            now=now,
        )
        return self._certificate(issued)

    async def renewed(self, host: str, csr: str) -> str:
        """Sign the next certificate of a host that is connected by its last one, and return it in PEM.

        Raises:
            PkiError: what it wants signed is no request.
            JoinError: it is not to have another.
        """
        now = self._clock()
        return (await self._renew(self._issued(csr, host, now), now)).pem

    async def renew(self, request: api.RenewRequest) -> api.Certificate:
        """Sign the next certificate of a host whose last one has run out while it was away.

        Raises:
            JoinError: it is not to have another: it is revoked, or has had a newer one.
            InvalidError: what it sends does not prove who it is.
        """
        now = self._clock()
        try:
            signature = base64.b64decode(request.signature, validate=True)
            identity = proven(request.csr, signature, request.certificate, self._authority.certificate, now)
        except ValueError as error:  # PkiError is one
            raise invalid("signature", str(error)) from error
        record = await self._store.hosts.one(identity.host)
        if record is None or identity.serial not in record.serials:
            raise JoinError(f"host {identity.host} has had a newer certificate than this one: let it join again")
        return self._certificate(await self._renew(self._issue(request.csr, identity.host, now), now))

    async def _renew(self, issued: _Issued, now: datetime) -> _Issued:
        entry = _entry(f"host {issued.host}", "renew", issued.host, serial=issued.serial)
        await self._store.hosts.renew(
            issued.host, key_digest=issued.key, serial=issued.serial, until=issued.until, entry=entry, now=now
        )
        return issued

    def _issue(self, csr: str, host: str, now: datetime) -> _Issued:
        try:
            return self._issued(csr, host, now)
        except PkiError as error:
            raise invalid("csr", str(error)) from error

    def _issued(self, csr: str, host: str, now: datetime) -> _Issued:
        pem = self._authority.sign_host(csr, host, now)
        identity = identity_of(read_certificate(pem))
        return _Issued(host=host, pem=pem, serial=identity.serial, key=identity.key, until=identity.until)

    def _certificate(self, issued: _Issued) -> api.Certificate:
        return api.Certificate(
            host=issued.host, certificate=issued.pem, ca=self.ca, until=issued.until, agents=list(self._agents)
        )

    @property
    def ca(self) -> str:
        """The certificate of the site's authority, in PEM."""
        return self._authority.pem

    async def revoke(self, who: Caller, name: str) -> None:
        """Shut a host out, at once. Its gates go on with what they hold.

        Raises:
            ForbiddenError: this person may not.
            NotFoundError: there is no such host.
        """
        require(who, Verb.REVOKE_HOST)
        if await self._store.hosts.one(name) is None:
            raise NotFoundError(f"no host {name!r} has joined")
        await self._store.hosts.revoke(name, _entry(who.name, "revoke", name), self._clock())


def _entry(who: str, verb: str, host: str, **detail: object) -> Entry:
    return Entry(who=who, verb=verb, object=f"host {host}", scope=ROOT, outcome="done", detail=detail)
