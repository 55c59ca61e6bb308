"""What a rule is about: which peers, on which ports. Equal traffic is equal, however it is written."""

from __future__ import annotations

import dataclasses
from typing import Self

from serai.model.policy import Peer, Rule
from serai.policy.questions.cells import Cells


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Peers with their ports."""

    parts: frozenset[tuple[Peer | None, int]]
    """Each peer once (None: anybody), with the mask of the ports that it has beyond anybody's."""

    @classmethod
    def of(cls, rule: Rule, cells: Cells) -> Self:
        """Say what ``rule`` is about."""
        ports: dict[Peer | None, int] = {}
        for clause in rule.clauses:
            ports[clause.peer] = ports.get(clause.peer, 0) | cells.of(clause.ports)
        everybodys = ports.get(None, 0)
        beyond = {peer: mask & ~everybodys if peer else mask for peer, mask in ports.items()}
        return cls(frozenset((peer, mask) for peer, mask in beyond.items() if mask))

    @property
    def peers(self) -> frozenset[Peer | None]:
        """All peers."""
        return frozenset(peer for peer, _ in self.parts)

    @property
    def ports(self) -> int | None:
        """The ports that all peers have alike; None where they differ."""
        masks = {mask for _, mask in self.parts}
        return masks.pop() if len(masks) == 1 else None

    def in_common(self, other: Traffic) -> str:
        """Say what two rules share that could be one: ``peers``, ``ports``, or nothing."""
        if self.ports is None or other.ports is None:
            return ""
        if self.peers == other.peers:
            return "peers"
        return "ports" if self.ports == other.ports else ""
