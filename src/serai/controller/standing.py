"""Where everything stands: what each host holds of what it should, and who leads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from serai.access.decide import Caller, Refused, Subject, decide, scopes
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.errors import ForbiddenError, NotFoundError
from serai.controller.shard import Shard
from serai.controller.views import require, seen
from serai.model.tenancy import ROOT
from serai.store.records import HostRecord, HostState
from serai.store.store import Store
from serai.wire import api

_POLL_SECONDS: Final = 0.2
"""How often a controller that does not lead looks again."""
_NOBODY: Final = HostState(
    name="", connected=False, since=None, agent="", epoch=0, holds=None, wanted=None, revision=0, trouble="", vnics=0
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What is known at one moment."""

    leader: str
    compiled: int
    states: Mapping[str, HostState]
    joined: Mapping[str, HostRecord]
    head: int

    def behind(self) -> int:
        """Count the hosts that do not hold what they should."""
        if self.compiled < self.head:
            return sum(record.revoked is None for record in self.joined.values())
        return sum(
            record.revoked is None and not _holds_it(self.states.get(name, _NOBODY))
            for name, record in self.joined.items()
        )


class Standing:
    """Looks at it: the controller that leads knows, others ask the database."""

    def __init__(self, store: Store, current: Current, shard: Shard) -> None:
        """Ask these."""
        self._store, self._current, self._shard = store, current, shard
        self._joined: tuple[int, Mapping[str, HostRecord]] = (-1, {})

    async def status(self, who: Caller) -> api.Status:
        """Return where everything stands; hosts only to those who may see them.

        Raises:
            ForbiddenError: this person may see nothing.
        """
        if not scopes(who, Verb.READ):
            raise ForbiddenError(f"{who.name} may not see anything here: it takes a role")
        look = await self._look()
        waiting = [seen(who, each) for each in await self._store.revisions.unconfirmed()]
        return api.Status(
            revision=look.head,
            hosts=list(_hosts(look)) if may_see_hosts(who) else [],
            leader=look.leader,
            confirm=[revision for revision in waiting if revision],
            behind=look.behind(),
        )

    async def host(self, who: Caller, name: str) -> api.HostStatus:
        """Return how one host is, with its gates.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: no such host has joined.
        """
        require(who, Verb.READ_HOSTS)
        found = next((each for each in _hosts(await self._look()) if each.name == name), None)
        if found is None:
            raise NotFoundError(f"no host {name!r} has joined")
        return msgspec.structs.replace(found, gates=list(self._gates(name)))

    def _gates(self, name: str) -> Iterator[api.Gate]:
        """Go through the vNICs that a host's agent says it guards: the controller that leads knows them, others do not."""
        guarded = self._shard.guarded(name)
        for vm, vnic in self._current.edition.catalog.world.vnics():
            if vnic.id in guarded:
                yield api.Gate(vnic=f"{vm.path}/{vnic.name}", tap=None, mode=vm.mode.value)

    async def wait(self, who: Caller, revision: int, seconds: float) -> api.Status:
        """Return as soon as every host holds what ``revision`` and all before it want, or when the time is over.

        Raises:
            ForbiddenError: this person may see nothing.
        """
        await self._shard.news.until(
            self._look, lambda look: look.head >= revision and not look.behind(), seconds=seconds, every=_POLL_SECONDS
        )
        return await self.status(who)

    async def somebody_leads(self) -> bool:
        """Say whether some controller has led lately, as far as is known."""
        return bool((await self._look()).leader)

    async def _look(self) -> _Look:
        head, mark = self._current.edition.revision, self._current.hosts_mark
        if self._joined[0] != mark:
            self._joined = (mark, {record.name: record for record in await self._store.hosts.all()})
        if self._shard.term is not None:
            states: Sequence[HostState] = list(self._shard.states())
            leader, compiled = self._shard.url, self._shard.compiled
        else:
            states, told = await self._store.hosts.states(), await self._store.leader(self._shard.name)
            leader, compiled = (told.url, told.compiled) if told else ("", 0)
        return _Look(
            leader=leader, compiled=compiled, states={s.name: s for s in states}, joined=self._joined[1], head=head
        )


def _hosts(look: _Look) -> Iterator[api.HostStatus]:
    for name, record in sorted(look.joined.items()):
        state = look.states.get(name, _NOBODY)
        holds_it = _holds_it(state)
        yield api.HostStatus(
            name=name,
            joined=record.revoked is None,
            connected=state.connected,
            since=state.since,
            agent=state.agent,
            epoch=state.epoch,
            holds=state.holds,
            wanted=state.wanted,
            revision=look.compiled if holds_it else state.revision,
            behind=not holds_it or look.compiled < look.head,
            trouble=state.trouble,
            revoked=record.revoked is not None,
            certificate_until=record.until,
            vnics=state.vnics,
        )


def _holds_it(state: HostState) -> bool:
    return state.holds is not None and state.holds == state.wanted


def may_see_hosts(who: Caller) -> bool:
    """Say whether somebody may see which hosts there are."""
    return not isinstance(decide(who, Verb.READ_HOSTS, Subject(scope=ROOT)), Refused)
