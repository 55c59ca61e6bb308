"""Which hosts do not fit the pools that they are in, found out for all hosts of a pool at once. No I/O."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from serai.migration.admission import Mismatch, admit
from serai.model.host_facts import HostFacts
from serai.model.placement import Pool, Profile

_OF_EACH: Final = 2
"""Hosts with the same facts that others are compared with: one that is among them has the other."""


def unfit(pools: Iterable[Pool], facts: Mapping[str, HostFacts]) -> dict[str, tuple[Mismatch, ...]]:
    """Return in what hosts do not fit their pools, by name; those that fit are not in it.

    That another host of the pool has never told what it is made of speaks against nobody else. Of a ``strict`` pool whose hosts are not
    all alike those fit that are like most.

    Args:
        pools: all of them.
        facts: what hosts have told; of others nothing is said.
    """
    return {host: found for pool in pools for host, found in _unfit(pool, facts)}


def _unfit(pool: Pool, facts: Mapping[str, HostFacts]) -> Iterator[tuple[str, tuple[Mismatch, ...]]]:
    told = {host: facts[host] for host in sorted(pool.hosts) if host in facts}
    some = _most(told) if pool.profile is Profile.STRICT else _different(told)
    for host, own in told.items():
        among = dataclasses.replace(pool, hosts=frozenset({*some, host}))
        if found := admit(among, some, host, own, pool.name).mismatches:
            yield host, found


def _different(told: Mapping[str, HostFacts]) -> dict[str, HostFacts]:
    """Return some hosts that say as much as all of them."""
    alike: dict[bytes, list[str]] = collections.defaultdict(list)
    for host, facts in told.items():
        alike[msgspec.msgpack.encode((facts.cpu.arch, facts.cpu.vendor, sorted(facts.cpu.features)))].append(host)
    return {host: told[host] for hosts in alike.values() for host in hosts[:_OF_EACH]}


def _most(told: Mapping[str, HostFacts]) -> dict[str, HostFacts]:
    """Return one host that is like most: in all but memory, and there in the middle."""
    alike: dict[bytes, list[str]] = collections.defaultdict(list)
    for host, facts in told.items():
        cpu = msgspec.structs.replace(facts.cpu, features=sorted(facts.cpu.features))
        alike[msgspec.msgpack.encode((cpu, sorted(nic.speed or 0 for nic in facts.nics)))].append(host)
    if not alike:
        return {}
    most = max(len(hosts) for hosts in alike.values())
    hosts = sorted(
        next(hosts for hosts in alike.values() if len(hosts) == most), key=lambda host: (told[host].memory, host)
    )
    return {host: told[host] for host in (hosts[(len(hosts) - 1) // 2],)}
