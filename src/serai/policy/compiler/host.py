"""What one host holds: the parts that its VMs need, each once, however many of them need it."""

from __future__ import annotations

import collections
import dataclasses
import operator
from collections.abc import Mapping, Sequence

from serai.model.ruleset import HostRuleset, manifest_digest
from serai.model.ruleset_delta import Delta
from serai.policy.compiler.fit import Capacity, require_fit
from serai.policy.compiler.part import SENT, Part
from serai.policy.compiler.statutes import Statutes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What will be otherwise on a host."""

    needed: Mapping[bytes, tuple[Part, int]]
    """By digest, a part and how many VMs will need it: none, or others than before."""
    cost: int
    """Of all parts together then."""
    delta: Delta


class Host:
    """A host. It changes only by plans, each of which is made before any is carried out."""

    def __init__(self, name: str) -> None:
        """Begin with nothing."""
        self._name = name
        self._needed: dict[bytes, tuple[Part, int]] = {}
        self._cost = 0
        self.digest = manifest_digest(name, ()).hex()
        """That of its ruleset."""

    @property
    def ruleset(self) -> HostRuleset:
        """Its ruleset."""
        parts = {digest: part.raw for digest, (part, _) in self._needed.items() if len(digest) == SENT}
        return HostRuleset(host=self._name, parts=parts)

    def plan(
        self, gone: Sequence[Part], new: Sequence[Part], bridge: Sequence[Part], statutes: Statutes, room: Capacity
    ) -> Plan:
        """Work out what becomes of the host when VMs need some parts no more, and others too.

        Args:
            gone: what is needed once less; a part comes once for each VM that needed it.
            new: what is needed once more.
            bridge: what is needed only while gates switch.
            statutes: what was compiled into the new ones.
            room: what the host has room for, old and new side by side.

        Raises:
            FitError: they do not fit.
        """
        before = self._needed
        needed = {part.digest: (part, before.get(part.digest, _BY_NOBODY)[1]) for part in (*gone, *new)}
        for times, parts in ((1, new), (-1, gone)):
            for digest, count in collections.Counter(map(_DIGEST, parts)).items():
                part, so_far = needed[digest]
                needed[digest] = part, so_far + times * count
        added = {digest: part for digest, (part, times) in needed.items() if times and digest not in before}
        dropped = {digest: part for digest, (part, times) in needed.items() if not times and digest in before}
        passing = self._passing(bridge, needed)
        cost = self._cost + sum(part.cost for part in added.values())
        # While gates switch, what is new and what is old stand side by side.
        crossing = sum(part.cost for part in passing.values() if part.digest not in before)
        require_fit(self._name, cost + crossing, {**passing, **added}, before, statutes, room)
        # Told by the digest, which is at hand, and not by the part, which lies far away in memory.
        kept = [digest for digest in before if len(digest) == SENT and digest not in dropped]
        sent = sorted([digest for digest in added if len(digest) == SENT])
        delta = Delta(
            host=self._name,
            before=self.digest,
            after=manifest_digest(self._name, [*kept, *sent]).hex(),
            drop=tuple(sorted([digest for digest in dropped if len(digest) == SENT])),
            add=tuple([added[digest].raw for digest in sent]),
            bridge=tuple([passing[digest].raw for digest in sorted(passing) if len(digest) == SENT]),
        )
        return Plan(needed=needed, cost=cost - sum(part.cost for part in dropped.values()), delta=delta)

    def _passing(self, bridge: Sequence[Part], needed: Mapping[bytes, tuple[Part, int]]) -> Mapping[bytes, Part]:
        """Pick what is needed on the way only: books of domains that stay here, and what it costs to use them."""

        def times(digest: bytes) -> int:
            return needed.get(digest, self._needed.get(digest, _BY_NOBODY))[1]

        known = {part.digest: part for part in bridge}
        uses = [each for each in known if len(each) > SENT and times(each[:SENT]) and not times(each)]
        books = {use[SENT:] for use in uses if not times(use[SENT:])}
        return {digest: known[digest] for digest in (*uses, *books)}

    def carry_out(self, plan: Plan) -> None:
        """Be as ``plan``, made for the host as it is, has it."""
        for digest, (part, times) in plan.needed.items():
            if times:
                self._needed[digest] = part, times
            else:
                self._needed.pop(digest, None)
        self._cost = plan.cost
        self.digest = plan.delta.after


_BY_NOBODY: tuple[Part | None, int] = None, 0
_DIGEST = operator.attrgetter("digest")
