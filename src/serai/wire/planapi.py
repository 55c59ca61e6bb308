"""What people and their tools say to a controller about plans of moves, and hear: how hosts are emptied, and pools levelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from serai.wire.api import Body, Word

MOST_HOSTS = 1000
"""Hosts that one plan empties at the most."""


class PlanRequest(Body, frozen=True, kw_only=True):
    """Empty hosts, or fill the hosts of a pool equally: one of both."""

    evacuate: Annotated[list[Word], msgspec.Meta(max_length=MOST_HOSTS)] = msgspec.field(default_factory=list)
    """Names of hosts on which no VM shall be left."""
    rebalance: Word = ""
    """The name of a pool."""


class PlannedMove(Body, frozen=True, kw_only=True):
    """A VM goes from one host to another."""

    vm: str
    """Its path."""
    source: str
    to: str
    memory: int = 0
    """What it takes along, in MiB."""


class StuckVm(Body, frozen=True, kw_only=True):
    """A VM that stays where it should not, and all that keeps it from the hosts where it might go."""

    vm: str
    host: str
    """Where it is."""
    why: list[str]
    """Sentences; together they say something of every host."""


class HostLoad(Body, frozen=True, kw_only=True):
    """What a host has at one time."""

    vms: int
    memory: int
    """MiB, of the VMs whose memory is declared."""
    vnics: int


class PlannedHost(Body, frozen=True, kw_only=True):
    """A host, before and after a plan."""

    host: str
    memory: int
    """MiB that VMs may have there, together; what stays free for the host itself is taken off. 0: it has never told."""
    headroom: int
    """MiB that stay free."""
    vnics: int
    """vNICs that its gates have room for."""
    before: HostLoad
    after: HostLoad
    closed: str = ""
    """Why it takes nobody; empty: it takes VMs."""
    unknown: int = 0
    """VMs there whose memory nobody has declared."""


class PlanReply(Body, frozen=True, kw_only=True):
    """A plan. Nothing is done by it."""

    goal: PlanRequest
    revision: int
    """Of the resources that it was made from."""
    rounds: Sequence[Sequence[PlannedMove]]
    """Moves of a round may be made in any order, and all at once; each round waits for the one before it."""
    stuck: Sequence[StuckVm]
    proven: bool
    """None leaves fewer VMs stuck; of one that fills hosts equally: none in one round gets nearer to that, or there with fewer moves."""
    hosts: Sequence[PlannedHost]
    """Those that a VM leaves or comes to, and those that were asked about; by name."""
