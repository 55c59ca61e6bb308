"""What one host holds: its VMs, the routing domains that they are in, and the books for their kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from serai.model.ruleset import HostRuleset, manifest_digest
from serai.model.ruleset_delta import Delta
from serai.policy.compiler.census import Kind
from serai.policy.compiler.domains import CompiledDomain, Guest
from serai.policy.compiler.fit import Capacity, require_fit
from serai.policy.compiler.part import SENT, Part
from serai.policy.compiler.statutes import Statutes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What will be otherwise on a host."""

    guests: Mapping[bytes, Part | None]
    """By digest; None: not there any more."""
    kinds: Mapping[str, Mapping[Kind, int]]
    """How many VMs of which kind there will be in a routing domain."""
    added: Mapping[bytes, Part]
    """Parts that will be held, by digest."""
    dropped: Sequence[bytes]
    """Parts that will not be held any more."""
    cost: int
    """Of all parts together then."""
    delta: Delta


class Host:
    """A host. It changes only by plans, each of which is made before any is carried out."""

    def __init__(self, name: str) -> None:
        """Begin with nothing."""
        self._name = name
        self._guests: dict[bytes, Part] = {}
        self._kinds: dict[str, Mapping[Kind, int]] = {}
        self._parts: dict[bytes, Part] = {}
        self._cost = 0
        self.digest = manifest_digest(name, ()).hex()
        """That of its ruleset."""

    @property
    def ruleset(self) -> HostRuleset:
        """Its ruleset."""
        parts = {digest: part.raw for digest, part in self._parts.items() if len(digest) == SENT}
        return HostRuleset(host=self._name, parts=parts)

    def plan(
        self,
        leaving: Sequence[Guest],
        arriving: Sequence[Guest],
        domains: Mapping[str, CompiledDomain],
        statutes: Statutes,
        room: Capacity,
    ) -> Plan:
        """Work out what becomes of the host when VMs leave and arrive; one that is otherwise leaves and arrives.

        Args:
            leaving: as they were.
            arriving: as they will be.
            domains: all routing domains, as they will be.
            statutes: what was compiled into them.
            room: what the host has room for, old and new side by side.

        Raises:
            FitError: they do not fit.
        """
        guests: dict[bytes, Part | None] = dict.fromkeys(guest.part.digest for guest in leaving)
        guests |= {guest.part.digest: guest.part for guest in arriving}
        kinds = self._counted(leaving, arriving)
        parts = {digest: part for digest, part in (self._guests | guests).items() if part}
        for name in self._kinds.keys() | kinds.keys():
            present = kinds[name] if name in kinds else self._kinds[name]
            if present:
                domain = domains[name]
                parts[domain.part.digest] = domain.part
                for kind in present:
                    for part in domain.books[kind]:
                        parts[part.digest] = part
        added = {digest: parts[digest] for digest in parts.keys() - self._parts.keys()}
        dropped = self._parts.keys() - parts.keys()
        passing = _passing(leaving, kinds, domains, parts)
        cost = self._cost + sum(part.cost for part in added.values())
        # While gates switch, what is new and what is old stand side by side.
        crossing = sum(part.cost for part in passing.values() if part.digest not in self._parts)
        require_fit(self._name, cost + crossing, self._parts | passing | added, statutes, room)
        # What is sent is told by its digest, which is at hand, and not by the part, which lies far away in memory.
        sent = sorted([digest for digest in added if len(digest) == SENT])
        delta = Delta(
            host=self._name,
            before=self.digest,
            after=manifest_digest(self._name, [digest for digest in parts if len(digest) == SENT]).hex(),
            drop=tuple(sorted([digest for digest in dropped if len(digest) == SENT])),
            add=tuple([added[digest].raw for digest in sent]),
            bridge=tuple([passing[digest].raw for digest in sorted(passing) if len(digest) == SENT]),
        )
        cost -= sum(self._parts[digest].cost for digest in dropped)
        return Plan(guests=guests, kinds=kinds, added=added, dropped=tuple(dropped), cost=cost, delta=delta)

    def _counted(self, leaving: Iterable[Guest], arriving: Iterable[Guest]) -> dict[str, Mapping[Kind, int]]:
        """Count the VMs of each kind in the domains that some leave, or arrive in."""
        counts: dict[str, dict[Kind, int]] = {}
        for guests, one in ((arriving, 1), (leaving, -1)):
            for guest in guests:
                for name in guest.domains:
                    count = counts.setdefault(name, dict(self._kinds.get(name, {})))
                    count[guest.kind] = count.get(guest.kind, 0) + one
        return {name: {kind: times for kind, times in count.items() if times} for name, count in counts.items()}

    def carry_out(self, plan: Plan) -> None:
        """Be as ``plan``, made for the host as it is, has it."""
        for digest, guest in plan.guests.items():
            if guest:
                self._guests[digest] = guest
            else:
                self._guests.pop(digest, None)
        for name, kinds in plan.kinds.items():
            if kinds:
                self._kinds[name] = kinds
            else:
                self._kinds.pop(name, None)
        for digest in plan.dropped:
            del self._parts[digest]
        self._parts |= plan.added
        self._cost = plan.cost
        self.digest = plan.delta.after


def _passing(
    leaving: Iterable[Guest],
    kinds: Mapping[str, Mapping[Kind, int]],
    domains: Mapping[str, CompiledDomain],
    parts: Mapping[bytes, Part],
) -> dict[bytes, Part]:
    """Pick what is needed on the way only: books of kinds that leave domains which stay here, and what they cost."""
    left = {(name, guest.kind) for guest in leaving for name in guest.domains if kinds[name]}
    needed = (part for name, kind in left for part in domains[name].books.get(kind, ()))
    return {part.digest: part for part in needed if part.digest not in parts}
