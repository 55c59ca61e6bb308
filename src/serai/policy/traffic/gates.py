"""What the gates of one world would say of recorded conversations: both sides, many at a time.

Verdicts are looked up in flattened decision lists, one for each class of ends (``questions/sides.py``); a test compares them
with the evaluator.
"""

from __future__ import annotations

import dataclasses

from serai.model.address import prefix_of
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


_BOTH = (Direction.EGRESS, Direction.INGRESS)


class Gates:
    """Judges conversations in one world; remembers what it has worked out."""

    def __init__(self, world: World) -> None:
        """Take the world; nothing is worked out yet."""
        self.finder = Finder(world)
        self._sides = Sides(world)
        self._known: dict[End, tuple[Seen, Seen]] = {}
        self._classes: dict[End, int] = {}
        self._numbers: dict[tuple[Seen, Seen, Mode | None], int] = {}
        self._said: dict[tuple[int, int, Direction, int, int], Said] = {}
        self._both: dict[tuple[int, int, int, int], tuple[Said | None, Said | None]] = {}

    def judge_both(self, ends: Ends, protocol: int, port: int) -> tuple[Said | None, Said | None]:
        """Say what the source's side and the target's side say."""
        key = self._class(ends.source), self._class(ends.target), protocol, port
        found = self._both.get(key)
        if found is None:
            egress, ingress = (self.judge(ends, direction, protocol, port) for direction in _BOTH)
            found = self._both[key] = egress, ingress
        return found

    def judge(self, ends: Ends, direction: Direction, protocol: int, port: int) -> Said | None:
        """Say what one side says; None where that end has no gate."""
        mine, other = (ends.source, ends.target) if direction is Direction.EGRESS else (ends.target, ends.source)
        if mine.judged is None:
            return None
        key = self._class(mine), self._class(other), direction, protocol, port
        found = self._said.get(key)
        if found is None:
            decision = self._sides.decision(self._seen(mine)[0], direction, self._seen(other)[1], protocol, port)
            found = self._said[key] = Said(*decision, mine.judged[0].mode)
        return found

    def _class(self, end: End) -> int:
        """Number what verdicts about an end depend on: ends of one class are judged alike."""
        found = self._classes.get(end)
        if found is None:
            key = *self._seen(end), end.judged[0].mode if end.judged else None
            found = self._classes[end] = self._numbers.setdefault(key, len(self._numbers))
        return found

    def _seen(self, end: End) -> tuple[Seen, Seen]:
        """Return how its own gate sees an end, and how the other side does: a VM's other addresses are no VM's to it."""
        found = self._known.get(end)
        if found is None:
            own = self._looks(end, end.judged)
            found = self._known[end] = own, own if end.holder is end.judged else self._looks(end, end.holder)
        return found

    def _looks(self, end: End, by: tuple[VirtualMachine, Vnic] | None) -> Seen:
        """Return how an address looks that a VM uses, or none."""
        if by is None:
            return self._sides.of_outside(prefix_of(end.address))
        return self._sides.of_vnic(*by, end.address)
