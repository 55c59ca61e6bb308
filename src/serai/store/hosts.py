"""Hosts: who may join, who has, and what the leader knows of them."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from serai.model.host_facts import HostFacts
from serai.store import times
from serai.store.errors import JoinError
from serai.store.ledger import Act, Ledger, whole
from serai.store.records import Entry, HostRecord, HostState, JoinTokenRecord, ToldFacts
from serai.store.schema import FACTS, HOSTS, JOIN_TOKENS, LEADERS, STATES

_NO_TOKEN = "this join token is not known here: ask for another with 'serai host token NAME'"  # noqa: S105 (a sentence)


class Hosts:
    """The hosts of the site."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep them there."""
        self._ledger = ledger

    # Joining

    @whole
    async def add_join_token(self, record: JoinTokenRecord, entry: Entry, now: datetime) -> None:
        """Let a host join.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await act.connection.execute(
                sa.insert(JOIN_TOKENS).values(
                    id=record.id, host=record.host, secret_digest=record.secret_digest,
                    expires=times.write(record.expires), by=record.by, used=None,
                )
            )  # fmt: skip

    @whole
    async def may_join(self, token: str, secret_digest: bytes, now: datetime) -> str:
        """Return the host that a token lets in.

        Raises:
            JoinError: it lets nobody in, or nobody any more.
        """
        async with self._ledger.reading() as connection:
            row = (await connection.execute(sa.select(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token))).first()
        return _required(row, secret_digest, now)

    @whole
    async def join(
        self,
        token: str,
        secret_digest: bytes,
        *,
        key_digest: bytes,
        serial: str,
        until: datetime,
        entry: Entry,
        now: datetime,
    ) -> HostRecord:
        """Take a host in, and use its token up. Whoever joins again has another key, and is not revoked any more.

        Raises:
            JoinError: the token lets nobody in, or nobody any more.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            asked = sa.select(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token).with_for_update()
            host = _required((await act.connection.execute(asked)).first(), secret_digest, now)
            used = sa.update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token).values(used=times.write(now))
            await act.connection.execute(used)
            # An agent's life may begin right now: without the lock its epoch would be given again.
            asked = sa.select(HOSTS.c.epoch).where(HOSTS.c.name == host).with_for_update()
            known = (await act.connection.execute(asked)).first()
            await act.connection.execute(sa.delete(HOSTS).where(HOSTS.c.name == host))
            await act.connection.execute(
                sa.insert(HOSTS).values(
                    name=host, key_digest=key_digest, serial=serial, previous="", joined=times.write(now),
                    until=times.write(until), revoked=None, epoch=known.epoch if known else 0,
                )
            )  # fmt: skip
            act.hosts += 1
            return await _one(act, host)

    @whole
    async def renew(
        self, host: str, *, key_digest: bytes, serial: str, until: datetime, entry: Entry, now: datetime
    ) -> HostRecord:
        """Note the next certificate of a host; the last one is good as long as it lasts, as the next may be lost on its way.

        Raises:
            JoinError: it has not joined, or is revoked.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            known = await _one(act, host)
            if known.revoked is not None:
                raise JoinError(f"host {host} is revoked: let it join again")
            await act.connection.execute(
                sa.update(HOSTS).where(HOSTS.c.name == host).values(
                    key_digest=key_digest, serial=serial, previous=known.serial, until=times.write(until)
                )
            )  # fmt: skip
            act.hosts += 1
            return await _one(act, host)

    @whole
    async def revoke(self, host: str, entry: Entry, now: datetime) -> None:
        """Make the certificates of a host worthless.

        Raises:
            JoinError: it has not joined.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.acting(entry, now) as act:
            await _one(act, host)
            revoked = sa.update(HOSTS).where(HOSTS.c.name == host, HOSTS.c.revoked.is_(None))
            await act.connection.execute(revoked.values(revoked=times.write(now)))
            act.hosts += 1

    @whole
    async def next_epoch(self, host: str) -> int:
        """Begin another life of a host's agent; return what it is called.

        Raises:
            JoinError: it has not joined.
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.writing() as connection:
            begun = sa.update(HOSTS).where(HOSTS.c.name == host).values(epoch=HOSTS.c.epoch + 1)
            row = (await connection.execute(begun.returning(HOSTS.c.epoch))).first()
        if row is None:
            raise JoinError(f"no host {host} has joined")
        return int(row.epoch)

    @whole
    async def one(self, name: str) -> HostRecord | None:
        """Return a host that has joined."""
        async with self._ledger.reading() as connection:
            row = (await connection.execute(sa.select(HOSTS).where(HOSTS.c.name == name))).first()
            return _read(row) if row else None

    @whole
    async def all(self) -> list[HostRecord]:
        """Return all hosts that have joined, by name."""
        async with self._ledger.reading() as connection:
            found = [_read(row) for row in await connection.execute(sa.select(HOSTS))]
        return sorted(found, key=lambda host: host.name)

    # What the leader knows

    @whole
    async def put_states(self, states: Sequence[HostState], *, shard: str, term: int, compiled: int) -> None:
        """Keep what the leader knows of some hosts, and how far it has compiled, for other controllers; one that leads no more keeps nothing.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        async with self._ledger.writing() as connection:
            noted = sa.update(LEADERS).where(LEADERS.c.shard == shard, LEADERS.c.term == term)
            if (await connection.execute(noted.values(compiled=compiled))).rowcount != 1 or not states:
                return
            await connection.execute(sa.delete(STATES).where(STATES.c.name.in_([state.name for state in states])))
            await connection.execute(
                sa.insert(STATES),
                [
                    {
                        "name": s.name, "connected": s.connected, "since": times.write(s.since), "agent": s.agent,
                        "epoch": s.epoch, "holds": s.holds, "wanted": s.wanted, "revision": s.revision,
                        "trouble": s.trouble, "vnics": s.vnics,
                    }
                    for s in states
                ],
            )  # fmt: skip

    @whole
    async def states(self) -> list[HostState]:
        """Return what the leader has let others know of hosts, by name."""
        async with self._ledger.reading() as connection:
            rows = await connection.execute(sa.select(STATES))
            found = [
                HostState(
                    name=r.name, connected=r.connected, since=times.read_any(r.since), agent=r.agent, epoch=r.epoch,
                    holds=r.holds, wanted=r.wanted, revision=r.revision, trouble=r.trouble, vnics=r.vnics,
                )
                for r in rows
            ]  # fmt: skip
        return sorted(found, key=lambda state: state.name)

    @whole
    async def put_facts(self, told: Sequence[ToldFacts]) -> None:
        """Keep what some hosts have told that they are made of.

        Raises:
            StoreError: the database does not answer, or is full.
        """
        if not told:
            return
        async with self._ledger.writing() as connection:
            await connection.execute(sa.delete(FACTS).where(FACTS.c.name.in_([each.host for each in told])))
            await connection.execute(
                sa.insert(FACTS),
                [
                    {
                        "name": each.host,
                        "told": times.write(each.told),
                        "facts": msgspec.json.encode(each.facts).decode(),
                    }
                    for each in told
                ],
            )

    @whole
    async def facts(self) -> list[ToldFacts]:
        """Return what hosts have told last, by name; what an earlier version has written, and this one cannot read, is left out.

        Raises:
            StoreError: the database does not answer.
        """
        async with self._ledger.reading() as connection:
            rows = list(await connection.execute(sa.select(FACTS)))
        found = [
            ToldFacts(host=r.name, told=times.read(r.told), facts=facts) for r in rows if (facts := _facts(r.facts))
        ]
        return sorted(found, key=lambda each: each.host)


def _facts(text: str) -> HostFacts | None:
    try:
        return msgspec.json.decode(text, type=HostFacts)
    except (msgspec.DecodeError, ValueError):
        return None


def _required(row: sa.Row[tuple[object, ...]] | None, secret_digest: bytes, now: datetime) -> str:
    if row is None or not hmac.compare_digest(row.secret_digest, secret_digest):
        raise JoinError(_NO_TOKEN)
    if row.used is not None:
        raise JoinError("this join token has been used: ask for another with 'serai host token NAME'")
    if times.read(row.expires) <= now:
        raise JoinError("this join token is too old: ask for another with 'serai host token NAME'")
    return str(row.host)


async def _one(act: Act, host: str) -> HostRecord:
    row = (await act.connection.execute(sa.select(HOSTS).where(HOSTS.c.name == host).with_for_update())).first()
    if row is None:
        raise JoinError(f"no host {host} has joined")
    return _read(row)


def _read(row: sa.Row[tuple[object, ...]]) -> HostRecord:
    told = row._mapping  # noqa: SLF001 (SQLAlchemy's public name for a row by column)
    return HostRecord(
        name=told["name"], key_digest=told["key_digest"], serial=told["serial"], previous=told["previous"],
        joined=times.read(told["joined"]), until=times.read(told["until"]), revoked=times.read_any(told["revoked"]),
        epoch=told["epoch"],
    )  # fmt: skip
