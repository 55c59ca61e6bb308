"""Hosts: who may join, who is in, and what each holds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from serai.access.decide import Caller, Refused, Subject, decide
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.drafts import invalid
from serai.controller.errors import ForbiddenError, NotFoundError
from serai.controller.shard import Shard
from serai.controller.views import require, revision_of
from serai.model.tenancy import ROOT, is_name
from serai.store.hosts import HostRecord, HostState, JoinTokenRecord
from serai.store.store import Entry, Store
from serai.wire import api
from serai.wire.pki import Authority, JoinToken

JOIN_LIFE: Final = timedelta(minutes=15)
"""How long a token that lets a host join is good."""
LATE_RENEWAL: Final = timedelta(days=30)
"""How long after its certificate has run out a host may still renew it, by the key on record."""
_POLL_SECONDS: Final = 0.2
_NOBODY: Final = HostState(
    name="", connected=False, since=None, agent="", epoch=0, holds=None, wanted=None, revision=0, trouble="", vnics=0
)


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
        token = JoinToken(id=secrets.token_hex(8), secret=secrets.token_urlsafe(32), ca_hash=self._authority.ca_hash)
        record = JoinTokenRecord(
            id=token.id, host=request.host, secret_digest=_digest(token.secret), expires=now + JOIN_LIFE, by=who.name
        )
        await self._store.add_join_token(record, _entry(who.name, "let a host join", request.host), now)
        return api.JoinToken(token=str(token), host=request.host, expires=record.expires)

    async def join(self, request: api.JoinRequest) -> api.Certificate:
        """Take a host in.

        Raises:
            JoinError: its token is none, or no longer one.
            InvalidError: what it wants signed is no request for a certificate.
        """
        token, now = JoinToken.parse(request.token), self._clock()
        host = await self._store.join_token_host(token.id, _digest(token.secret), now)
        signed = self._authority.sign_host(request.csr, host, now)
        entry = _entry(f"host {host}", "join", host, serial=signed.serial)
        await self._store.join_host(
            token.id, _digest(token.secret), key_digest=signed.key_digest, serial=signed.serial, until=signed.until,
            entry=entry, now=now,
        )  # fmt: skip
        return self._certificate(host, signed.pem, signed.until)

    async def renewed(self, host: str, csr: str) -> str:
        """Sign the next certificate of a host that is connected by its last one."""
        now = self._clock()
        signed = self._authority.sign_host(csr, host, now)
        entry = _entry(f"host {host}", "renew", host, serial=signed.serial)
        await self._store.renew_host(
            host, key_digest=signed.key_digest, serial=signed.serial, until=signed.until, entry=entry, now=now
        )
        return signed.pem

    async def renew(self, request: api.RenewRequest) -> api.Certificate:
        """Sign the next certificate of a host whose last one has run out while it was away.

        Raises:
            ForbiddenError: the host is revoked or unknown, it was away too long, or somebody else asks.
        """
        now = self._clock()
        record = await self._store.host(request.host)
        if record is None or record.revoked or now > record.until + LATE_RENEWAL:
            raise ForbiddenError(f"host {request.host} is not one that may renew its certificate: let it join again")
        if not self._authority.proves(record.key_digest, request):
            raise ForbiddenError(f"this request is not signed by the key that host {request.host} has joined with")
        pem = await self.renewed(request.host, request.csr)
        return self._certificate(request.host, pem, now)

    def _certificate(self, host: str, pem: str, until: datetime) -> api.Certificate:
        return api.Certificate(
            host=host, certificate=pem, ca=self._authority.ca_pem, until=until, agents=list(self._agents)
        )

    async def revoke(self, who: Caller, name: str) -> None:
        """Shut a host out, at once. Its gates go on with what they hold.

        Raises:
            ForbiddenError: this person may not.
            NotFoundError: there is no such host.
        """
        require(who, Verb.REVOKE_HOST)
        if await self._store.host(name) is None:
            raise NotFoundError(f"no host {name!r} has joined")
        await self._store.revoke_host(name, _entry(who.name, "revoke", name), self._clock())

    # What each holds

    async def status(self, who: Caller) -> api.Status:
        """Return where everything stands; hosts only to those who may see them."""
        require(who, Verb.READ)
        leads = self._shard.term is not None
        leader = await self._store.leader("all")
        states = {s.name: s for s in (self._shard.states() if leads else await self._store.states())}
        compiled = self._shard.compiled if leads else (leader.compiled if leader else 0)
        joined = {record.name: record for record in await self._store.hosts()}
        head = self._current.edition.revision
        found = [_status(name, joined.get(name), states.get(name, _NOBODY), compiled, head) for name in sorted(joined)]
        shown = found if _may_see_hosts(who) else ()
        return api.Status(
            revision=head,
            hosts=shown,
            leader=leader.url if leader else "",
            confirm=[revision_of(each, ()) for each in await self._store.unconfirmed()],
            behind=sum(host.behind for host in found if not host.revoked),
        )

    async def host(self, who: Caller, name: str) -> api.HostStatus:
        """Return how one host is, with its gates.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: no such host has joined.
        """
        require(who, Verb.READ_HOSTS)
        status = await self.status(who)
        found = next((each for each in status.hosts if each.name == name), None)
        if found is None:
            raise NotFoundError(f"no host {name!r} has joined")
        return msgspec.structs.replace(found, gates=list(self._gates(name)))

    def _gates(self, name: str) -> Iterator[api.Gate]:
        """Go through the vNICs that a host's agent says it guards: the leader knows them, others do not."""
        guarded = self._shard.guarded(name)
        for vm, vnic in self._current.edition.catalog.world.vnics():
            if vnic.id in guarded:
                yield api.Gate(vnic=f"{vm.path}/{vnic.name}", tap=None, mode=vm.mode.value)

    async def wait(self, who: Caller, revision: int, seconds: float) -> api.Status:
        """Return as soon as every host holds what ``revision`` and all before it want, or when the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status(who)
            left = deadline - time.monotonic()
            if (status.revision >= revision and not status.behind) or left <= 0:
                return status
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _POLL_SECONDS)):
                    await self._shard.progress()


def _status(name: str, record: HostRecord | None, state: HostState, compiled: int, head: int) -> api.HostStatus:
    holds_it = state.holds is not None and state.holds == state.wanted
    return api.HostStatus(
        name=name,
        joined=record is not None and record.revoked is None,
        connected=state.connected,
        since=state.since,
        agent=state.agent,
        epoch=state.epoch,
        holds=state.holds,
        wanted=state.wanted,
        revision=compiled if holds_it else state.revision,
        behind=not holds_it or compiled < head,
        trouble=state.trouble,
        revoked=record is not None and record.revoked is not None,
        certificate_until=record.until if record else None,
        vnics=state.vnics,
    )


def _may_see_hosts(who: Caller) -> bool:
    return not isinstance(decide(who, Verb.READ_HOSTS, Subject(scope=ROOT)), Refused)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _entry(who: str, verb: str, host: str, **detail: object) -> Entry:
    return Entry(who=who, verb=verb, object=f"host {host}", scope=ROOT, outcome="done", detail=detail)
