"""Where VMs may run: what has been said about it, every reference resolved. No verdict on a packet depends on it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from serai.model.host_facts import Feature
from serai.model.policy import Group

NO_TAGS: frozenset[str] = frozenset()
"""What most things carry."""


class Profile(enum.StrEnum):
    """How much the hosts of a pool must be alike."""

    STRICT = "strict"
    """CPU, memory and NICs are the same on all."""
    COMPATIBLE = "compatible"
    """VMs use what the CPUs of all have; the rest may differ."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What every host of a pool must have at the least."""

    memory: int = 0
    """MiB."""
    nics: int = 0
    nic_speed: int = 0
    """Mbit/s; so many NICs as ``nics`` says are as fast, or all where it says nothing."""
    agent: str = ""
    """A version, such as ``0.1.0``; empty: any."""
    features: frozenset[Feature] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Hosts that VMs may move between."""

    name: str
    hosts: frozenset[str]
    profile: Profile
    requires: Requirements = Requirements()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exclusive:
    """Hosts that carry the tag take only VMs that carry it."""

    name: str
    tag: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeepApart:
    """No host runs two VMs of the group."""

    name: str
    group: Group


PlacementRule = Exclusive | KeepApart


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a VM needs of the host that it runs on. VMs that need the same share one of these."""

    tags: frozenset[str] = NO_TAGS
    """Carried by the host, and by all networks that the VM is attached to."""
    memory: int | None = None
    """MiB; None: nobody has said."""


NO_NEEDS = Needs()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlacementTerms:
    """All that has been said about where VMs may run. Who is not named has no tags and needs nothing."""

    vms: Mapping[str, Needs] = dataclasses.field(default_factory=dict)
    """By path."""
    hosts: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """The tags of hosts, by name."""
    networks: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    """The tags of networks, by path."""
    pools: Mapping[str, Pool] = dataclasses.field(default_factory=dict)
    """By name; no host is in two."""
    rules: Mapping[str, PlacementRule] = dataclasses.field(default_factory=dict)
    """By name."""


NO_TERMS = PlacementTerms()
