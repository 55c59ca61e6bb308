"""Which hosts fit their pools: the same as comparing each with all others says, but for whom nobody can be compared with, and odd ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from serai.controller.planning.fitting import unfit
from serai.migration.admission import About, admit
from serai.model.host_facts import Cpu, HostFacts, Nic
from serai.model.placement import Pool, Profile, Requirements

_T = TypeVar("_T")
HOSTS = ("a", "b", "c", "d", "e")


def facts(
    number: int = 1, features: str = "avx", memory: int = 64_000, nics: int = 1, vendor: str = "Intel"
) -> HostFacts:
    cpu = Cpu(arch="x86_64", vendor=vendor, family=6, number=number, features=features.split())
    cards = [Nic(name=f"e{at}", speed=25_000) for at in range(nics)]
    return HostFacts(cpu=cpu, memory=memory, nics=cards, kernel="6.8.0", features=[], agent="0.1.0")


def pool(profile: Profile, hosts: str = "abc", **requires: int) -> Pool:
    return Pool(name="west", hosts=frozenset(hosts), profile=profile, requires=Requirements(**requires))


STRICT, COMPATIBLE = Profile.STRICT, Profile.COMPATIBLE
CASES: Mapping[str, tuple[Pool, dict[str, HostFacts], dict[str, list[About]]]] = {
    "the odd one of a strict pool": (pool(STRICT), {"a": facts(), "b": facts(2), "c": facts()}, {"b": [About.CPU_MODEL]}),
    "most count, not the first": (pool(STRICT), {"a": facts(2), "b": facts(), "c": facts()}, {"a": [About.CPU_MODEL]}),
    "memory in the middle counts": (
        pool(STRICT, "abcde"),
        dict(zip(HOSTS, map(facts, (1,) * 5, ("avx",) * 5, (64_000, 63_900, 64_100, 32_000, 90_000)), strict=True)),
        {"d": [About.MEMORY], "e": [About.MEMORY]},
    ),
    "who has never told is nobody's fault": (pool(STRICT), {"a": facts(), "b": facts()}, {}),
    "what the pool asks for": (pool(COMPATIBLE, nics=2), {"a": facts(nics=2), "b": facts()}, {"b": [About.NICS]}),
    "lacks what all others have": (
        pool(COMPATIBLE), {"a": facts(features="avx sha"), "b": facts(features="avx sha"), "c": facts()}, {"c": [About.CPU_FEATURES]},
    ),
    "each lacks something": (pool(COMPATIBLE), {"a": facts(features="avx sha"), "b": facts(features="avx aes"), "c": facts()}, {}),
    "nobody has told": (pool(STRICT), {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_who_does_not_fit(case: str) -> None:
    where, told, expected = CASES[case]
    assert {host: [each.about for each in found] for host, found in unfit([where], told).items()} == expected


@st.composite
def pools(draw: Callable[[st.SearchStrategy[_T]], _T]) -> tuple[Pool, dict[str, HostFacts]]:
    some = st.builds(
        facts, number=st.just(1), features=st.sampled_from(("avx", "avx sha", "sha avx", "avx aes sha")),
        memory=st.sampled_from((32_000, 64_000)), nics=st.sampled_from((1, 1, 2)), vendor=st.sampled_from(("Intel", "Intel", "Intel", "AMD")),
    )  # fmt: skip
    return pool(COMPATIBLE, "abcde", nics=draw(st.integers(0, 2))), {host: draw(some) for host in HOSTS}


@settings(deadline=None)
@given(pools())
def test_of_a_compatible_pool_all_are_compared_with_all(case: tuple[Pool, dict[str, HostFacts]]) -> None:
    where, told = case
    slow = {
        host: {each.about for each in admit(where, told, host, own, "west").mismatches} for host, own in told.items()
    }
    expected = {host: found for host, found in slow.items() if found}
    assert {host: {each.about for each in found} for host, found in unfit([where], told).items()} == expected
    event(f"{len(expected)} do not fit")
