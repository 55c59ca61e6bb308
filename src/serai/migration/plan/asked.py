"""What a plan is made of: hosts with their room, VMs with their needs, and what shall become of them."""

from __future__ import annotations

import dataclasses


class PlanError(ValueError):
    """A plan cannot be made of this; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlanHost:
    """A host, and what the VMs that it has may need together.

    A host that holds more than that already takes no VM that needs more of it.
    """

    name: str
    memory_mib: int
    """For VMs: headroom is taken off already."""
    vnics: int
    """Room for rulesets, of the gate."""
    flows: int | None = None
    """Room for flow tables; None: it is not limited."""
    admits: bool = True
    """It matches its pool and takes VMs. One that does not may still be left."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A VM, where it is, and what it needs there."""

    path: str
    host: str
    memory_mib: int
    vnics: int
    flows: int = 0
    """What its vNICs may have together."""
    allowed: frozenset[str]
    """Hosts that tags, networks and pools let it run on. VMs for which it is equal are best given one object."""
    apart: tuple[str, ...] = ()
    """Names of groups; no two VMs of a group run on one host."""

    @property
    def needs(self) -> tuple[int, int, int]:
        """Memory in MiB, vNICs, flows."""
        return self.memory_mib, self.vnics, self.flows


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evacuate:
    """No VM shall be left on these hosts, and none moves to them."""

    hosts: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """These hosts shall be about equally full: with few moves among them, and never more than ``most_moves``."""

    hosts: frozenset[str]
    within: float
    """Aimed for: no host is fuller, or emptier, than all of them together by more than this share of its memory (0.05: five percent)."""
    most_moves: int

    def __post_init__(self) -> None:
        """Check that it can be."""
        if not 0 < self.within < 1:
            raise PlanError(f"{self.within:g} is no share of memory: take one between 0 and 1, 0.05 say")
        if self.most_moves < 0:
            raise PlanError(f"{self.most_moves} moves cannot be made: take a number from 0 on")


Goal = Evacuate | Rebalance
