"""Does a host fit a pool: each thing that can differ, in a sentence; and what must hold of all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.migration.admission import About, admit, baseline
from serai.model.host_facts import Cpu, Feature, HostFacts, Nic, version
from serai.model.placement import Pool, Profile, Requirements

CPU = Cpu(arch="x86_64", vendor="Intel", model="Broadwell", family=6, number=79, features=["aes", "avx", "avx2"])
FACTS = HostFacts(
    cpu=CPU, memory=64000, nics=[Nic(name="eth0", speed=25000), Nic(name="eth1", speed=25000)], kernel="6.8.0-1",
    features=["jit", "tcx"], agent="0.1.0", libvirt="9.0.0", qemu="7.2.22",
)  # fmt: skip


def cpu(**what: Any) -> HostFacts:
    return msgspec.structs.replace(FACTS, cpu=msgspec.structs.replace(CPU, **what))


def facts(**what: Any) -> HostFacts:
    return msgspec.structs.replace(FACTS, **what)


def nics(*speeds: int | None) -> HostFacts:
    return facts(nics=[Nic(name=f"eth{at}", speed=speed) for at, speed in enumerate(speeds)])


def pool(profile: Profile = Profile.STRICT, **requires: Any) -> Pool:
    return Pool(name="west", hosts=frozenset({"alpha", "beta"}), profile=profile, requires=Requirements(**requires))


MEMBERS = {"alpha": FACTS, "beta": FACTS}
COMPATIBLE = Profile.COMPATIBLE

STRICT = {
    "another architecture": (cpu(arch="aarch64"), About.CPU_ARCH, "has a CPU of the architecture aarch64, and alpha, beta have a CPU of the architecture x86_64"),
    "another maker": (cpu(vendor="AMD"), About.CPU_VENDOR, "has a CPU made by AMD, and alpha, beta have a CPU made by Intel"),
    "no maker": (cpu(vendor=""), About.CPU_VENDOR, "has a CPU made by somebody unknown, and alpha, beta have a CPU made by Intel"),
    "another family": (cpu(family=25), About.CPU_MODEL, "has a CPU of family 25, model 79, and alpha, beta have a CPU of family 6, model 79"),
    "another model": (cpu(number=85), About.CPU_MODEL, "has a CPU of family 6, model 85, and alpha, beta have a CPU of family 6, model 79"),
    "a feature less": (cpu(features=["aes", "avx"]), About.CPU_FEATURES, "has other CPU features than alpha, beta: it lacks avx2"),
    "a feature more": (cpu(features=["aes", "avx", "avx2", "sha"]), About.CPU_FEATURES, "has other CPU features than alpha, beta: it has sha beyond"),
    "other features": (cpu(features=["aes", "avx", "sha"]), About.CPU_FEATURES, "has other CPU features than alpha, beta: it lacks avx2 and it has sha beyond"),
    "less memory": (facts(memory=32000), About.MEMORY, "has 32000 MiB of memory, and alpha, beta have 64000 MiB of memory"),
    "a NIC less": (nics(25000), About.NICS, "has 1 NICs (1 of 25000 Mbit/s), and alpha, beta have 2 NICs (2 of 25000 Mbit/s)"),
    "a slower NIC": (nics(25000, 10000), About.NICS, "has 2 NICs (1 of 25000 Mbit/s, 1 of 10000 Mbit/s), and alpha, beta have 2 NICs (2 of 25000 Mbit/s)"),
    "a NIC without a link": (nics(25000, None), About.NICS, "has 2 NICs (1 of 25000 Mbit/s, 1 of unknown speed), and alpha, beta have 2 NICs (2 of 25000 Mbit/s)"),
    "no NIC": (nics(), About.NICS, "has no NICs, and alpha, beta have 2 NICs (2 of 25000 Mbit/s)"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRICT)
def test_a_strict_pool_takes_only_what_is_the_same(name: str) -> None:
    found, about, message = STRICT[name]
    told = admit(pool(), MEMBERS, "gamma", found)
    assert [(each.about, str(each)) for each in told.mismatches] == [(about, message)]
    assert not told.fits


SAME = {
    "the same": FACTS,
    "a little less memory": facts(memory=63800),
    "NICs in another order": nics(25000, 25000),
    "another kernel, agent, libvirt, QEMU": facts(kernel="5.14.0", features=[], agent="9", libvirt="10.0.0", qemu="9.0.0"),
    "another name for the same model": cpu(model="Broadwell-IBRS"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("profile", Profile)
def test_what_is_the_same_fits(name: str, profile: Profile) -> None:
    assert admit(pool(profile), MEMBERS, "gamma", SAME[name]).mismatches == ()


def test_without_numbers_the_name_of_the_model_counts() -> None:
    arm = cpu(vendor="ARM", model="cortex-a72", family=0, number=0)
    other = cpu(vendor="ARM", model="cortex-a57", family=0, number=0)
    [told] = admit(pool(), {"alpha": arm, "beta": arm}, "gamma", other).mismatches
    assert str(told) == "has a CPU of cortex-a57, and alpha, beta have a CPU of cortex-a72"


def test_members_that_differ_are_told_apart() -> None:
    members = {"alpha": FACTS, "beta": cpu(family=25)}
    assert [str(each) for each in admit(pool(), members, "gamma", FACTS).mismatches] == [
        "has a CPU of family 6, model 79, and beta has a CPU of family 25, model 79"
    ]
    assert len(admit(pool(), members, "gamma", cpu(family=7)).mismatches) == 2


def test_a_compatible_pool_computes_what_vms_may_use() -> None:
    members = {"alpha": cpu(features=["aes", "avx", "avx2", "sha"]), "beta": cpu(features=["aes", "avx", "gfni"])}
    told = admit(pool(COMPATIBLE), members, "gamma", cpu(features=["aes", "sse", "sha"]))
    assert [(each.about, str(each)) for each in told.mismatches] == [
        (About.CPU_FEATURES, "lacks CPU features that VMs of the pool may use: avx")
    ]
    assert told.baseline == {"aes", "avx"}
    assert told.unused == {"sse", "sha"}
    fits = admit(pool(COMPATIBLE), members, "gamma", cpu(family=25, features=["aes", "avx", "sse"]))
    assert (fits.fits, fits.unused) == (True, {"sse"})


@pytest.mark.parametrize("name", ["another architecture", "another maker"])
def test_a_compatible_pool_has_cpus_of_one_maker(name: str) -> None:
    found, about, message = STRICT[name]
    told = admit(pool(COMPATIBLE), MEMBERS, "gamma", found)
    assert [(each.about, str(each)) for each in told.mismatches] == [(about, message)]


def test_a_compatible_pool_takes_other_memory_and_nics() -> None:
    assert admit(pool(COMPATIBLE), MEMBERS, "gamma", msgspec.structs.replace(nics(), memory=1)).fits


REQUIRED = {
    "memory": ({"memory": 65536}, FACTS, About.MEMORY, "has 64000 MiB of memory, and the pool asks for 65536"),
    "NICs": ({"nics": 3}, FACTS, About.NICS, "has 2 NICs (2 of 25000 Mbit/s), and the pool asks for 3 NICs"),
    "fast NICs": ({"nics": 2, "nic_speed": 25000}, nics(25000, 10000, 10000), About.NICS, "has 3 NICs (1 of 25000 Mbit/s, 2 of 10000 Mbit/s), and the pool asks for 2 NICs of 25000 Mbit/s or more"),
    "only fast NICs": ({"nic_speed": 25000}, nics(25000, None), About.NICS, "has 2 NICs (1 of 25000 Mbit/s, 1 of unknown speed), and the pool asks for all its NICs to be of 25000 Mbit/s or more"),
    "any NIC": ({"nic_speed": 1}, nics(), About.NICS, "has no NICs, and the pool asks for all its NICs to be of 1 Mbit/s or more"),
    "a feature": ({"features": frozenset(Feature)}, facts(features=["jit"], kernel="6.1.0"), About.FEATURES, "has a kernel (6.1.0) without what the pool asks for: tcx"),
    "an agent": ({"agent": "0.2"}, FACTS, About.AGENT, "runs the agent 0.1.0, and the pool asks for 0.2 or newer"),
}  # fmt: skip


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("name", REQUIRED)
def test_a_pool_asks_for_the_least_whatever_its_profile(name: str, profile: Profile) -> None:
    requires, found, about, message = REQUIRED[name]
    told = admit(dataclasses.replace(pool(profile, **requires), hosts=frozenset()), {}, "gamma", found)
    assert [(each.about, str(each)) for each in told.mismatches] == [(about, message)]


def test_what_a_pool_asks_for_is_enough() -> None:
    requires = {"memory": 64000, "nics": 2, "nic_speed": 25000, "agent": "0.1", "features": frozenset(Feature)}
    assert admit(pool(**requires), MEMBERS, "gamma", FACTS).fits
    assert admit(pool(**requires), MEMBERS, "gamma", nics(25000, 25000)).fits
    assert admit(pool(COMPATIBLE, nics=2, nic_speed=25000), MEMBERS, "gamma", nics(25000, 40000, 1000)).fits


def test_who_has_never_told_is_no_match() -> None:
    told = admit(pool(), {"alpha": FACTS}, "gamma", FACTS)
    assert [(each.about, str(each)) for each in told.mismatches] == [
        (About.MEMBERS, "cannot be compared with beta, of the pool: it has never told what it is")
    ]
    [both] = admit(pool(), {}, "gamma", FACTS).mismatches
    assert str(both) == "cannot be compared with alpha, beta, of the pool: they have never told what they are"
    assert admit(pool(), {}, "gamma", FACTS).baseline == set(CPU.features)


def test_a_host_is_in_one_pool_and_is_not_compared_with_itself() -> None:
    [told] = admit(pool(), MEMBERS, "gamma", FACTS, within="east").mismatches
    assert (told.about, str(told)) == (About.POOL, "is in the pool east already, and can be in one only")
    assert admit(pool(), {"alpha": cpu(family=1), "beta": FACTS}, "alpha", FACTS, within="west").fits


SPEEDS = st.lists(st.sampled_from((None, 1000, 10000)), max_size=3)
ANY = st.builds(
    lambda cpu, memory, speeds: msgspec.structs.replace(nics(*speeds), cpu=cpu, memory=memory),
    st.builds(
        Cpu, arch=st.sampled_from(("x86_64", "aarch64")), vendor=st.sampled_from(("Intel", "AMD")), family=st.integers(5, 6), number=st.just(7),
        features=st.lists(st.sampled_from(("aes", "avx", "sha")), unique=True).map(sorted),
    ),
    st.sampled_from((1000, 1005, 2000)),
    SPEEDS,
)  # fmt: skip


def alike(one: HostFacts, other: HostFacts) -> bool:
    """Written by hand from docs/PLACEMENT.md: what is the same in a strict pool."""
    a, b = ((f.cpu.arch, f.cpu.vendor, f.cpu.family, f.cpu.number, f.cpu.features, f.memory // 1000, sorted(str(n.speed) for n in f.nics)) for f in (one, other))  # fmt: skip
    return a == b


@given(ANY, ANY)
def test_strict_is_the_same_both_ways(one: HostFacts, other: HostFacts) -> None:
    alone = dataclasses.replace(pool(), hosts=frozenset({"alpha"}))
    both = [admit(alone, {"alpha": a}, "gamma", b).fits for a, b in ((one, other), (other, one))]
    assert both == [alike(one, other)] * 2


@given(st.lists(ANY, min_size=1, max_size=2), ANY)
def test_who_fits_a_compatible_pool_takes_nothing_from_it(members: list[HostFacts], one: HostFacts) -> None:
    known = dict(zip(("alpha", "beta"), members, strict=False))
    wanted = dataclasses.replace(pool(COMPATIBLE), hosts=frozenset(known))
    told = admit(wanted, known, "gamma", one)
    after = baseline([*members, one])
    same_maker = all((m.cpu.arch, m.cpu.vendor) == (one.cpu.arch, one.cpu.vendor) for m in members)
    assert told.fits == (same_maker and after == told.baseline)
    assert told.baseline | told.unused >= set(one.cpu.features)
    assert not told.baseline & told.unused


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.1.0", (0, 1)), ("0.1", (0, 1)), ("10.2.3", (10, 2, 3)), ("1.2rc1", (1, 2)), ("1.2rc1.4", (1, 2)), ("", ()), ("x", ()), ("0.0", ())],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers
