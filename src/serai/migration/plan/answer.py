"""What comes of planning."""

from __future__ import annotations

import dataclasses
import enum


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One VM, from one host to another."""

    machine: str
    source: str
    to: str


class Rule(enum.StrEnum):
    """What keeps a VM from a host."""

    PLACEMENT = "placement"
    """Tags, networks or pools let it run on no other host; or on such alone that are to become empty too."""
    ADMISSION = "admission"
    """The hosts do not match their pool, and take nobody."""
    APART = "apart"
    """A VM of a group of which it is one runs there."""
    MEMORY = "memory"
    VNICS = "vnics"
    FLOWS = "flows"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One rule, and the hosts that it keeps a VM from."""

    rule: Rule
    hosts: tuple[str, ...]
    why: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A VM that stays where it should not, and everything that keeps it from the hosts where it might go."""

    machine: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Moves, in rounds: those of one round may be made in any order, and all at once.

    Whoever moves in a round has room at its destination while all who leave there are still there.
    """

    rounds: tuple[tuple[Move, ...], ...]
    stuck: tuple[Stuck, ...] = ()
    proven: bool
    """No plan leaves fewer stuck. Of one that rebalances: none gets nearer to what is aimed for, or there with fewer moves, of plans
    of one round. False: that is not known; the search was ended after as much work as it is given."""

    @property
    def moves(self) -> tuple[Move, ...]:
        """All of them, in an order in which they can be made one by one."""
        return tuple(move for each in self.rounds for move in each)
