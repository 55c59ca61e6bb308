"""Which hosts fit which pool, by what they have told of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serai.access.decide import Caller
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.errors import NotFoundError
from serai.controller.placing.facts import Facts
from serai.controller.shard import Shard
from serai.controller.views import require
from serai.migration.admission import Admission, Mismatch, admit, baseline
from serai.model.definitions import did_you_mean
from serai.model.host_facts import Cpu, HostFacts
from serai.model.placement import Pool
from serai.store.records import ToldFacts
from serai.store.store import Store
from serai.wire import placementapi


class Pools:
    """Looks at it, for those who may see hosts."""

    def __init__(self, store: Store, current: Current, shard: Shard, facts: Facts) -> None:
        """Ask these."""
        self._store, self._current, self._shard, self._facts = store, current, shard, facts

    async def all(self, who: Caller) -> placementapi.Pools:
        """Return all pools by name, and what does not fit of the hosts that are in them.

        Raises:
            ForbiddenError: this person may not see hosts.
        """
        require(who, Verb.READ_HOSTS)
        edition = await self._current.catch_up()
        told, connected = await self._facts.all(), await self._connected()
        pools = [self._pool(pool, told, connected) for _, pool in sorted(edition.catalog.world.placement.pools.items())]
        return placementapi.Pools(revision=edition.revision, pools=pools)

    async def admission(self, who: Caller, name: str, host: str) -> placementapi.Admission:
        """Return in what a host does not fit a pool, whether it is in it or not.

        Raises:
            ForbiddenError: this person may not see hosts.
            NotFoundError: there is no such pool, or the host has never told what it is made of.
        """
        require(who, Verb.READ_HOSTS)
        edition = await self._current.catch_up()
        pools = edition.catalog.world.placement.pools
        pool = pools.get(name)
        if pool is None:
            raise NotFoundError(f"there is no pool {name!r}{did_you_mean(name, pools)}")
        told, connected = await self._facts.all(), await self._connected()
        if host not in told:
            raise NotFoundError(
                f"nothing is known of host {host!r}: its agent has never told what it is made of; let it join, or see its `serai agent status`"
            )
        within = next((each.name for each in pools.values() if host in each.hosts), None)
        found = admit(pool, _facts_of(told), host, told[host].facts, within)
        return placementapi.Admission(
            revision=edition.revision,
            pool=name,
            profile=pool.profile.value,
            host=host,
            member=host in pool.hosts,
            fits=found.fits,
            mismatches=_mismatches(found),
            told=told[host].told,
            connected=host in connected,
            baseline=sorted(found.baseline),
            unused=sorted(found.unused),
            absent=[
                placementapi.PoolHost(host=each, told=told[each].told if each in told else None, connected=False)
                for each in sorted(pool.hosts - connected - {host})
            ],
        )

    async def _connected(self) -> frozenset[str]:
        leads = self._shard.term is not None
        states = self._shard.states() if leads else await self._store.hosts.states()
        return frozenset(state.name for state in states if state.connected)

    @staticmethod
    def _pool(pool: Pool, told: Mapping[str, ToldFacts], connected: frozenset[str]) -> placementapi.Pool:
        facts = _facts_of(told)
        members = [facts[host] for host in sorted(pool.hosts) if host in facts]
        return placementapi.Pool(
            name=pool.name,
            profile=pool.profile.value,
            hosts=[_member(pool, host, told, facts, connected) for host in sorted(pool.hosts)],
            baseline=sorted(baseline(members)),
            cpus=_cpus(members),
        )


def _member(
    pool: Pool, host: str, told: Mapping[str, ToldFacts], facts: Mapping[str, HostFacts], connected: frozenset[str]
) -> placementapi.PoolHost:
    if host not in told:
        unknown = Mismatch.untold()
        return placementapi.PoolHost(host=host, told=None, connected=host in connected, mismatches=[_mismatch(unknown)])
    found = admit(pool, facts, host, facts[host], pool.name)
    return placementapi.PoolHost(
        host=host, told=told[host].told, connected=host in connected, mismatches=_mismatches(found)
    )


def _facts_of(told: Mapping[str, ToldFacts]) -> dict[str, HostFacts]:
    return {host: each.facts for host, each in told.items()}


def _mismatches(found: Admission) -> list[placementapi.PoolMismatch]:
    return [_mismatch(each) for each in found.mismatches]


def _mismatch(each: Mismatch) -> placementapi.PoolMismatch:
    return placementapi.PoolMismatch(about=each.about.value, message=each.message)


def _cpus(members: Sequence[HostFacts]) -> list[Cpu]:
    """Return the different CPUs of some hosts."""
    found: list[Cpu] = []
    for each in members:
        if each.cpu not in found:
            found.append(each.cpu)
    return found
