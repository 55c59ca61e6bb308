"""Where VMs may run, as people and their tools are told: bodies of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence

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
