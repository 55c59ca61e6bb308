"""Rulesets into kernel maps: whatever came before, the maps end up with the records of the last, or unchanged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network

import numpy as np
import pytest
from conftest import SIZES
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Map
from serai.datapath.object import GateObject
from serai.datapath.tables import Tables
from serai.model.records import endpoint, prefix
from serai.model.ruleset import TABLES, HostRuleset, rows, table
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

SMALL = 24
"""Entries in each small map."""

Held = Mapping[str, frozenset[bytes]]
"""Records by table."""


def held(maps: Mapping[str, Map]) -> Held:
    """What the kernel holds, key and value joined."""
    found = {}
    for name in TABLES:
        keys, values = maps[name].dump()
        records = [key.tobytes() + value.tobytes() for key, value in zip(keys, values, strict=True)]
        assert len(set(records)) == len(records)
        found[name] = frozenset(records)
    return found


def wanted(ruleset: HostRuleset) -> Held:
    return {name: frozenset(rows(ruleset.tables[name])) for name in TABLES}


def empty(maps: Mapping[str, Map]) -> None:
    for name in TABLES:
        maps[name].delete(maps[name].dump()[0])


def compiled(world: World) -> HostRuleset:
    return compile_host(world, "host", world.vms)


def made(**records: set[bytes]) -> HostRuleset:
    """A ruleset of records made up: they need not mean anything to be loaded."""
    return HostRuleset.whole(
        host="host", vnics=(), rules=(), tables={name: table(name, records.get(name, set())) for name in TABLES}
    )


def endpoints(identities: Mapping[int, int]) -> set[bytes]:
    """One endpoint for each address, with its identity."""
    return {endpoint(7, IPv6Address(address), identity) for address, identity in identities.items()}


def prefixes(identities: Mapping[int, int]) -> set[bytes]:
    """One prefix of each length."""
    return {prefix(1 | 2 << 32, IPv6Network((0, length)), identity) for length, identity in identities.items()}


def lists(targets: Mapping[int, int]) -> set[bytes]:
    return {np.array([(ruleset, 0, target)], TABLES["lists"]).tobytes() for ruleset, target in targets.items()}


def pages(numbers: range) -> set[bytes]:
    raw = np.zeros(len(numbers), TABLES["pages"])
    raw["list"], raw["count"] = list(numbers), 1
    return set(rows(raw))


@pytest.fixture(scope="module")
def large() -> Iterator[Mapping[str, Map]]:
    loaded = GateObject.load(None, sizes=SIZES)
    yield loaded.maps
    loaded.close()


@pytest.fixture(scope="module")
def small_maps() -> Iterator[Mapping[str, Map]]:
    loaded = GateObject.load(None, sizes={**SIZES, **dict.fromkeys(TABLES, SMALL)})
    yield loaded.maps
    loaded.close()


@pytest.fixture
def maps(large: Mapping[str, Map]) -> Iterator[Mapping[str, Map]]:
    yield large
    empty(large)


@pytest.fixture
def small(small_maps: Mapping[str, Map]) -> Iterator[Mapping[str, Map]]:
    yield small_maps
    empty(small_maps)


ANYHOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


A = made(
    endpoints=endpoints({1: 10, 2: 20, 3: 30}),
    prefixes=prefixes({8: 10, 24: 20}),
    lists=lists({1: 100, 2: 100}),
    pages=pages(range(1, 4)),
)
B = made(
    endpoints=endpoints({2: 21, 3: 30, 4: 40}),  # one changed in place, one kept, one new
    prefixes=prefixes({8: 11, 16: 30}),
    lists=lists({2: 200, 3: 100}),
    pages=pages(range(3, 6)),
)
NOTHING = made()


def test_there_and_back(maps: Mapping[str, Map]) -> None:
    tables = Tables(maps)
    for ruleset in (A, B, A, NOTHING, B, B, NOTHING):
        tables.add(ruleset)
        tables.remove_others(ruleset)
        assert held(maps) == wanted(ruleset)


def test_what_another_ruleset_needs_stays_until_it_is_removed(maps: Mapping[str, Map]) -> None:
    tables = Tables(maps)
    tables.add(A)
    tables.add(B)
    both = held(maps)
    for name in TABLES:
        size = maps[name].key.itemsize
        replaced = {record[:size] for record in wanted(B)[name]}
        kept = {r for r in wanted(A)[name] if r[:size] not in replaced}
        if name == "endpoints":  # who is gone from a view that stays is forgotten before gates switch
            views = {record[:8] for record in wanted(B)[name]}
            assert any(r[:8] in views for r in kept), "the case is there"
            kept = {r for r in kept if r[:8] not in views}
        assert both[name] == wanted(B)[name] | kept
    assert tables.remove_others(B) == sum(map(len, both.values())) - sum(map(len, wanted(B).values()))
    assert tables.remove_others(B) == 0


def test_adding_twice_changes_nothing(maps: Mapping[str, Map]) -> None:
    for tables in (Tables(maps), Tables(maps)):
        tables.add(A)
        tables.add(A)
        assert held(maps) == wanted(A)


def test_records_that_end_in_zeros_are_told_apart(maps: Mapping[str, Map]) -> None:
    """Numpy strips zeros off the end of bytes: equal but for those, records must not be taken for one another."""
    zeros = made(endpoints=endpoints({0: 0, 1: 0, 2: 1 << 56, 3: 256}), lists=lists({1 << 56: 0, 2: 0}))
    tables = Tables(maps)
    for ruleset in (zeros, made(endpoints=endpoints({0: 0})), zeros):
        tables.add(ruleset)
        tables.remove_others(ruleset)
        assert held(maps) == wanted(ruleset)


@settings(ANYHOW, max_examples=25)
@given(sequence=st.lists(worlds(), min_size=1, max_size=4), restarts=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_sequence_of_worlds_ends_as_the_last(
    maps: Mapping[str, Map], sequence: list[World], restarts: list[bool]
) -> None:
    empty(maps)
    tables = Tables(maps)
    for world, restarted in zip(sequence, restarts, strict=False):
        if restarted:  # a new agent over the maps of the last
            tables = Tables(maps)
        ruleset = compiled(world)
        tables.add(ruleset)
        for name, records in wanted(ruleset).items():
            assert records <= held(maps)[name], "what gates switch to is there before they do"
        tables.remove_others(ruleset)
        assert held(maps) == wanted(ruleset)


@ANYHOW
@given(first=worlds(), second=worlds(), relabelled=st.booleans())
def test_a_failed_removal_in_between_is_made_up_for(
    maps: Mapping[str, Map], first: World, second: World, *, relabelled: bool
) -> None:
    """An agent that dies between ``add`` and ``remove_others`` leaves both: the next one tidies up."""
    empty(maps)
    if relabelled:  # the same policies and addresses: identities change in place
        second = dataclasses.replace(second, policies=first.policies, last_word=first.last_word)
    Tables(maps).add(compiled(first))
    Tables(maps).add(compiled(second))
    Tables(maps).remove_others(compiled(second))
    assert held(maps) == wanted(compiled(second))


MANY = range(1000, 1000 + 2 * SMALL)
TOO_BIG = {
    "pages": made(pages=pages(MANY), endpoints=endpoints({1: 11})),
    "lists": made(pages=pages(range(1, 9)), lists=lists({1: 101} | dict.fromkeys(MANY, 7))),
    "prefixes": made(
        pages=pages(range(1, 9)), lists=lists({1: 101}), prefixes=prefixes({n: n + 1 for n in range(SMALL + 1)})
    ),
    "endpoints": made(
        pages=pages(range(1, 9)),
        lists=lists({1: 101, 9: 9}),
        prefixes=prefixes({8: 12, 9: 13}),
        endpoints=endpoints({1: 11, 2: 22, 3: 30} | dict.fromkeys(MANY, 5)),
    ),
}


@pytest.mark.parametrize("full", TOO_BIG)
def test_what_does_not_fit_changes_nothing(small: Mapping[str, Map], full: str) -> None:
    tables = Tables(small)
    tables.add(A)
    before = held(small)
    for _ in range(2):
        with pytest.raises(KernelError):
            tables.add(TOO_BIG[full])
        assert held(small) == before
    # And it goes on from there: nothing is believed to be in the kernel that is not.
    tables.add(B)
    tables.remove_others(B)
    assert held(small) == wanted(B)


@pytest.mark.parametrize("full", TOO_BIG)
def test_what_does_not_fit_is_undone_by_a_fresh_agent_too(small: Mapping[str, Map], full: str) -> None:
    Tables(small).add(A)
    before = held(small)
    with pytest.raises(KernelError):
        Tables(small).add(TOO_BIG[full])
    assert held(small) == before


@ANYHOW
@given(first=worlds(), second=worlds())
def test_a_world_fits_or_changes_nothing(small: Mapping[str, Map], first: World, second: World) -> None:
    empty(small)
    named = {(policy.scope, policy.name) for policy in first.policies}  # a world has no two of one name
    more = [policy for policy in second.policies if (policy.scope, policy.name) not in named]
    second = dataclasses.replace(second, policies=(*first.policies, *more[:1]))
    tables = Tables(small)
    before: Held = held(small)
    for ruleset in (compiled(first), compiled(second)):
        fits = all(
            len({r[: small[n].key.itemsize] for r in before[n] | records}) <= SMALL
            for n, records in wanted(ruleset).items()
        )
        event("fits" if fits else "does not fit")
        if fits:
            tables.add(ruleset)
            assert all(records <= held(small)[name] for name, records in wanted(ruleset).items())
        else:
            with pytest.raises(KernelError):
                tables.add(ruleset)
            assert held(small) == before
        before = held(small)


def test_full_to_the_brim_fits(small: Mapping[str, Map]) -> None:
    brim = made(
        endpoints=endpoints(dict.fromkeys(range(SMALL), 1)),
        prefixes=prefixes(dict.fromkeys(range(SMALL), 1)),
        lists=lists(dict.fromkeys(range(SMALL), 1)),
        pages=pages(range(SMALL)),
    )
    changed = made(**{**{n: set(rows(brim.tables[n])) for n in TABLES}, "endpoints": endpoints({0: 2})})
    tables = Tables(small)
    tables.add(brim)
    assert held(small) == wanted(brim)
    tables.add(changed)  # in place: it needs no room
    tables.remove_others(changed)
    assert held(small) == wanted(changed)
