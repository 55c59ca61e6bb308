"""Where VMs may run, as people and their tools are told: bodies of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from serai.model.host_facts import Cpu
from serai.wire.api import Body


class PlacementViolation(Body, frozen=True, kw_only=True):
    """Something that is not as tags and rules want it."""

    vm: str
    """Its path."""
    host: str | None
    """Where it is; None: nowhere, or whoever asks may not see hosts."""
    kind: str
    """See docs/PLACEMENT.md."""
    message: str
    tag: str = ""
    network: str = ""
    """The path of the one that is in the way."""
    rule: str = ""
    """The name of the PlacementRule."""


class HostBounds(Body, frozen=True, kw_only=True):
    """Whom a host has, and whom it can ever have."""

    host: str
    pool: str | None
    tags: Sequence[str]
    vms: int
    tenants: int
    """Those whose VMs it has."""
    tenants_most: int
    """Those that have a VM which may run there: it never meets others."""


class PlacementReport(Body, frozen=True, kw_only=True):
    """Where VMs are, and what is wrong about it."""

    revision: int
    """0: this is about files."""
    vms: int
    """How many were looked at."""
    reported: int
    """Of these, those that are where a host reports them; others are taken to be where they are expected."""
    violations: Sequence[PlacementViolation]
    hosts: Sequence[HostBounds]
    """None where whoever asks may not see hosts."""


class PoolMismatch(Body, frozen=True, kw_only=True):
    """One thing in which a host does not fit a pool."""

    about: str
    """See docs/PLACEMENT.md."""
    message: str
    """About the host, without its name."""


class PoolHost(Body, frozen=True, kw_only=True):
    """A host of a pool."""

    host: str
    told: datetime | None
    """When it has last told what it is made of; None: never."""
    connected: bool
    """Its agent is there, and would tell if that were otherwise."""
    mismatches: Sequence[PoolMismatch] = ()


class Pool(Body, frozen=True, kw_only=True):
    """A pool and its hosts."""

    name: str
    profile: str
    hosts: Sequence[PoolHost]
    baseline: Sequence[str]
    """The CPU features that all hosts have which have told."""
    cpus: Sequence[Cpu]
    """The different CPUs that they have."""


class Pools(Body, frozen=True, kw_only=True):
    """All pools, by name."""

    revision: int
    pools: Sequence[Pool]


class Admission(Body, frozen=True, kw_only=True):
    """Whether a host fits a pool."""

    revision: int
    pool: str
    profile: str
    host: str
    member: bool
    """It is in the pool."""
    fits: bool
    mismatches: Sequence[PoolMismatch]
    told: datetime
    """When the host has last told what it is made of."""
    connected: bool
    baseline: Sequence[str]
    """The CPU features that all other hosts of the pool have."""
    unused: Sequence[str]
    """What the host's CPU has beyond: it is lost to VMs of the pool."""
    absent: Sequence[PoolHost]
    """The pool's other hosts whose agents are not there: what they are was told then."""
