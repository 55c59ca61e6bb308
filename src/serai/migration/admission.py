"""Does a host fit a pool? What differs from the hosts that are in it, and what it lacks of what the pool asks for."""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Self

from serai.model.host_facts import HostFacts, version
from serai.model.placement import Pool, Profile

MEMORY_TOLERANCE: Final = 0.01
"""Hosts whose memory differs by less than this part have as much: kernels keep some for themselves."""


class About(enum.StrEnum):
    """What a mismatch is about."""

    POOL = "pool"
    """It is in another one."""
    MEMBERS = "members"
    """A host of the pool has never told what it is."""
    CPU_ARCH = "cpu-arch"
    CPU_VENDOR = "cpu-vendor"
    CPU_MODEL = "cpu-model"
    CPU_FEATURES = "cpu-features"
    MEMORY = "memory"
    NICS = "nics"
    """How many there are, and how fast."""
    FEATURES = "features"
    """Of the kernel."""
    AGENT = "agent"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing in which a host does not fit a pool."""

    about: About
    message: str
    """A sentence about the host, without its name."""

    def __str__(self) -> str:
        return self.message

    @classmethod
    def untold(cls) -> Self:
        """Return what is wrong with a host of the pool itself that nothing is known of."""
        return cls(about=About.MEMBERS, message="has never told what it is")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether a host fits a pool."""

    mismatches: tuple[Mismatch, ...]
    """None: it does."""
    baseline: frozenset[str]
    """The CPU features that all hosts have which are in the pool and have told, this one left out; VMs that move may use these."""
    unused: frozenset[str]
    """What its CPU has beyond: it is lost to VMs of the pool."""

    @property
    def fits(self) -> bool:
        """There is nothing that does not fit."""
        return not self.mismatches


def admit(
    pool: Pool, members: Mapping[str, HostFacts], host: str, facts: HostFacts, within: str | None = None
) -> Admission:
    """Compare a host with a pool.

    Args:
        pool: what it is to be in, or is in.
        members: what hosts of the pool have told; one that is not among them is a mismatch, and ``host`` is left out.
        host: its name.
        facts: what it has told.
        within: the pool that it is in.
    """
    others = {name: members[name] for name in sorted(pool.hosts) if name in members and name != host}
    common = baseline(others.values()) if others else frozenset(facts.cpu.features)
    compare = _strict if pool.profile is Profile.STRICT else _compatible
    mismatches = (
        *_known(pool, others, host, within),
        *compare(others, facts, common),
        *_required(pool, facts),
    )
    return Admission(mismatches=mismatches, baseline=common, unused=frozenset(facts.cpu.features) - common)


def baseline(hosts: Iterable[HostFacts]) -> frozenset[str]:
    """Return the CPU features that all of some hosts have; none where there are no hosts."""
    features = [frozenset(each.cpu.features) for each in hosts]
    return frozenset[str].intersection(*features) if features else frozenset()


def _known(pool: Pool, others: Mapping[str, HostFacts], host: str, within: str | None) -> Iterator[Mismatch]:
    if within is not None and within != pool.name:
        yield Mismatch(about=About.POOL, message=f"is in the pool {within} already, and can be in one only")
    if untold := sorted(pool.hosts - others.keys() - {host}):
        told = "it has never told what it is" if len(untold) == 1 else "they have never told what they are"
        message = f"cannot be compared with {', '.join(untold)}, of the pool: {told}"
        yield Mismatch(about=About.MEMBERS, message=message)


def _strict(others: Mapping[str, HostFacts], facts: HostFacts, _: frozenset[str]) -> Iterator[Mismatch]:
    def differ(about: About, what: str, of: Callable[[HostFacts], object]) -> Iterator[Mismatch]:
        return _differing(about, what, of, facts, others)

    yield from differ(About.CPU_ARCH, "a CPU of the architecture", lambda each: each.cpu.arch)
    yield from differ(About.CPU_VENDOR, "a CPU made by", _vendor)
    yield from differ(About.CPU_MODEL, "a CPU of", _model)
    for names, lacks, extra in _by_features(others, facts):
        parts = [f"it lacks {_list(lacks)}" if lacks else "", f"it has {_list(extra)} beyond" if extra else ""]
        message = f"has other CPU features than {names}: {' and '.join(filter(None, parts))}"
        yield Mismatch(about=About.CPU_FEATURES, message=message)
    near = {name: each for name, each in others.items() if not _as_much(each.memory, facts.memory)}
    yield from _differing(About.MEMORY, "", lambda each: f"{each.memory} MiB of memory", facts, near)
    yield from differ(About.NICS, "", _nics)


def _compatible(others: Mapping[str, HostFacts], facts: HostFacts, common: frozenset[str]) -> Iterator[Mismatch]:
    yield from _differing(About.CPU_ARCH, "a CPU of the architecture", lambda each: each.cpu.arch, facts, others)
    yield from _differing(About.CPU_VENDOR, "a CPU made by", _vendor, facts, others)
    if lacks := common - set(facts.cpu.features):
        message = f"lacks CPU features that VMs of the pool may use: {_list(lacks)}"
        yield Mismatch(about=About.CPU_FEATURES, message=message)


def _required(pool: Pool, facts: HostFacts) -> Iterator[Mismatch]:
    wants = pool.requires
    if facts.memory < wants.memory:
        message = f"has {facts.memory} MiB of memory, and the pool asks for {wants.memory}"
        yield Mismatch(about=About.MEMORY, message=message)
    fast = [nic for nic in facts.nics if (nic.speed or 0) >= wants.nic_speed]
    needed = wants.nics or (max(1, len(facts.nics)) if wants.nic_speed else 0)
    if len(fast) < needed:
        speed = f" of {wants.nic_speed} Mbit/s or more" if wants.nic_speed else ""
        asked = f"{wants.nics} NICs" if wants.nics else "all its NICs to be"
        message = f"has {_nics(facts)}, and the pool asks for {asked}{speed}"
        yield Mismatch(about=About.NICS, message=message)
    if lacks := wants.features - set(facts.features):
        message = f"has a kernel ({facts.kernel}) without what the pool asks for: {_list(lacks)}"
        yield Mismatch(about=About.FEATURES, message=message)
    if version(facts.agent) < version(wants.agent):
        message = f"runs the agent {facts.agent}, and the pool asks for {wants.agent} or newer"
        yield Mismatch(about=About.AGENT, message=message)


def _differing(
    about: About, what: str, of: Callable[[HostFacts], object], facts: HostFacts, others: Mapping[str, HostFacts]
) -> Iterator[Mismatch]:
    """Complain of each other value that members have."""
    found: dict[object, list[str]] = collections.defaultdict(list)
    for name, each in others.items():
        if of(each) != of(facts):
            found[of(each)].append(name)
    for value, names in found.items():
        thing = f"{what} " if what else ""
        verb = "has" if len(names) == 1 else "have"
        message = f"has {thing}{of(facts)}, and {', '.join(names)} {verb} {thing}{value}"
        yield Mismatch(about=about, message=message)


def _by_features(
    others: Mapping[str, HostFacts], facts: HostFacts
) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
    """Go through the members whose CPU has other features, by what it has."""
    own = frozenset(facts.cpu.features)
    found: dict[frozenset[str], list[str]] = collections.defaultdict(list)
    for name, each in others.items():
        found[frozenset(each.cpu.features)].append(name)
    for theirs, names in found.items():
        if theirs != own:
            yield ", ".join(names), theirs - own, own - theirs


def _vendor(facts: HostFacts) -> str:
    return facts.cpu.vendor or "somebody unknown"


def _model(facts: HostFacts) -> str:
    cpu = facts.cpu
    # The name depends on the version of libvirt; the maker's numbers do not.
    return f"family {cpu.family}, model {cpu.number}" if cpu.family or cpu.number else cpu.model or "an unknown model"


def _nics(facts: HostFacts) -> str:
    number = collections.Counter(nic.speed for nic in facts.nics)
    speeds = sorted(number.items(), key=lambda each: -(each[0] or 0))
    told = [f"{count} of {f'{speed} Mbit/s' if speed else 'unknown speed'}" for speed, count in speeds]
    return f"{len(facts.nics)} NICs ({', '.join(told)})" if told else "no NICs"


def _as_much(one: int, other: int) -> bool:
    return abs(one - other) <= MEMORY_TOLERANCE * max(one, other)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
