"""Conversations of one kind as one thing, whichever gates told them and whatever became of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from serai.model.address import Address
from serai.model.flow_record import Verdict
from serai.model.policy import Direction, PortRange
from serai.model.ports import TCP
from serai.policy.traffic.seen import Amount, Conversation, total

MOST_TRIES = 100
"""Whoever tries more ports, or more other ends, without an answer is scanning."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """All conversations from one end to another on one port."""

    told: tuple[Conversation, ...]
    """What gates told, at least one."""

    @property
    def source(self) -> str | Address | None:
        """The path of the VM that opened them, or an address."""
        return self.told[0].source or self.told[0].source_address

    @property
    def target(self) -> str | Address | None:
        """The path of the VM that they were opened to, or an address."""
        return self.told[0].target or self.told[0].target_address

    @property
    def service(self) -> PortRange:
        """What they were opened to."""
        return self.told[0].service

    @property
    def amount(self) -> Amount:
        """How much it was: what both gates told is the same."""
        sums = [total(map(Amount.of, found)) for _, found in sorted(self._by_side.items())]
        return sums[0] if len(sums) == 1 else sums[0] | sums[1]

    @property
    def admitted(self) -> Amount | None:
        """How much of it gates let pass; None where they did not.

        An accepted conversation between two VMs may be told by the source's gate alone. So where the target's gate told
        nothing but denials, it counts that the source had answers, which only TCP tells for certain.
        """
        if len(self.told) == 1:
            return None if self.told[0].verdict is Verdict.DENIED else Amount.of(self.told[0])
        passed = {side: [c for c in found if c.verdict is not Verdict.DENIED] for side, found in self._by_side.items()}
        sums = {side: total(map(Amount.of, found)) for side, found in passed.items() if found}
        for side in self._by_side.keys() - sums.keys():
            other = sums.get(_OTHER[side])
            answered = other is not None and other.connections > other.unanswered
            if side is Direction.EGRESS or self.told[0].protocol != TCP or not answered:
                return None
        both = list(sums.values())
        return both[0] if len(both) == 1 else both[0] | both[1]

    @property
    def denials(self) -> Sequence[Conversation]:
        """What was denied of it."""
        return [c for c in self.told if c.verdict is Verdict.DENIED]

    @property
    def _by_side(self) -> dict[Direction, list[Conversation]]:
        found: dict[Direction, list[Conversation]] = {}
        for conversation in self.told:
            found.setdefault(conversation.side, []).append(conversation)
        return found


_OTHER = {Direction.EGRESS: Direction.INGRESS, Direction.INGRESS: Direction.EGRESS}


def kinds(conversations: Iterable[Conversation]) -> list[Kind]:
    """Put together what belongs together, in the order in which it comes."""
    found: dict[tuple[object, ...], list[Conversation]] = {}
    for c in conversations:
        key = c.source, c.source_address, c.target, c.target_address, c.protocol, c.port
        found.setdefault(key, []).append(c)
    return [Kind(tuple(each)) for each in found.values()]


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """What one source tried."""

    source: str
    ports: int
    """On which nobody answered it."""
    targets: int
    """That did not answer it."""
    left_out: tuple[Kind, ...]
    """What had no answer, or was tried only once."""


def scans(found: Iterable[tuple[Kind, Amount]]) -> list[Scan]:
    """Find who scans, by source in order: more than ``MOST_TRIES`` ports or targets had no answer."""
    by_source: dict[str, list[tuple[Kind, Amount]]] = {}
    for kind, amount in found:
        by_source.setdefault(str(kind.source), []).append((kind, amount))
    return [scan for source in sorted(by_source) if (scan := _scan(source, by_source[source]))]


def _scan(source: str, tried: Sequence[tuple[Kind, Amount]]) -> Scan | None:
    if len(tried) <= MOST_TRIES:
        return None
    silent = [kind for kind, amount in tried if _had_no_answer(amount)]
    ports, targets = len({kind.service for kind in silent}), len({str(kind.target) for kind in silent})
    if max(ports, targets) <= MOST_TRIES:
        return None
    left_out = tuple(kind for kind, amount in tried if _had_no_answer(amount) or amount.connections == 1)
    return Scan(source, ports, targets, left_out)


def _had_no_answer(amount: Amount) -> bool:
    return 0 < amount.connections <= amount.unanswered
