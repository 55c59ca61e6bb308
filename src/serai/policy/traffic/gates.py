"""What the gates of one world would say of recorded conversations: both sides, many at a time.

Verdicts are looked up in flattened decision lists, one for each class of ends (``questions/sides.py``); a test compares them
with the evaluator.
"""

from __future__ import annotations

import dataclasses

from serai.model.address import Address, prefix_of
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, RuleRef
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.questions.sides import Seen, Sides
from serai.policy.traffic.ends import End, Ends, Finder


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What one side says."""

    action: Action
    """Accept or Deny."""
    ref: RuleRef
    """What decided."""
    mode: Mode
    """Of the VM whose side it is: a gate that only observes drops nothing."""


class Gates:
    """Judges conversations in one world; remembers what it has worked out."""

    def __init__(self, world: World) -> None:
        """Take the world; nothing is worked out yet."""
        self.finder = Finder(world)
        self._sides = Sides(world)
        self._held: dict[tuple[str, Address], Seen] = {}
        self._outside: dict[Address, Seen] = {}
        self._own: dict[tuple[int, int], Seen] = {}

    def judge(self, ends: Ends, direction: Direction, protocol: int, port: int) -> Said | None:
        """Say what one side says; None where that end has no gate."""
        mine, other = (ends.source, ends.target) if direction is Direction.EGRESS else (ends.target, ends.source)
        if mine.judged is None:
            return None
        vm, vnic = mine.judged
        own = self._seen(ends.domain, mine) if mine.judged == mine.holder else self._of(vm, vnic, mine.address.version)
        action, ref = self._sides.decision(own, direction, self._seen(ends.domain, other), protocol, port)
        return Said(action, ref, vm.mode)

    def _seen(self, domain: str, end: End) -> Seen:
        if end.holder is None:
            found = self._outside.get(end.address)
            if found is None:
                found = self._outside[end.address] = self._sides.of_outside(prefix_of(end.address))
            return found
        key = domain, end.address
        if key not in self._held:
            self._held[key] = self._sides.of_vnic(*end.holder, end.address)
        return self._held[key]

    def _of(self, vm: VirtualMachine, vnic: Vnic, version: int) -> Seen:
        """See a vNIC that uses an address which is not its own: its own rules count all the same."""
        key = vnic.id, version
        if key not in self._own:
            self._own[key] = self._sides.of_vnic(vm, vnic, vnic.held[0])
        return self._own[key]
