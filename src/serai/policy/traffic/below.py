"""What gates of the VMs of a scope say of conversations where there is no Tenant tier: what rules of it would have to admit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from serai.model.policy import Action, Direction, PortRange, Tier
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.traffic.ends import End, Ends
from serai.policy.traffic.gates import Gates, Said
from serai.policy.traffic.kinds import Kind
from serai.policy.traffic.needs import Need, Needs
from serai.policy.traffic.roster import Roster
from serai.policy.traffic.seen import Amount
from serai.policy.traffic.spots import spot


class Place(NamedTuple):
    """An end, in the numbers of the roster."""

    vm: int | None
    """The VM of the scope whose gate judges this side; None: there is none."""
    holder: int | None
    """The VM that holds the address."""
    address: int
    is_beyond: bool
    """The gate of a VM that is not of the scope judges this side."""


class Found(NamedTuple):
    """A kind of conversation, who the ends are now, and what their gates say where there is no Tenant tier."""

    kind: Kind
    service: PortRange
    amount: Amount
    """Of what gates let pass."""
    source: Place
    target: Place
    egress: Said | None
    """None: no gate of a VM of the scope is asked."""
    ingress: Said | None

    def side(self, direction: Direction) -> tuple[Place, Place, Said | None]:
        """Return one side: its own end, the other one, and what is said."""
        if direction is Direction.EGRESS:
            return self.source, self.target, self.egress
        return self.target, self.source, self.ingress


class Below:
    """Asks them."""

    def __init__(self, world: World, scope: Scope, roster: Roster) -> None:
        """Work nothing out yet."""
        self._world, self._scope, self._roster = world, scope, roster
        self._ends: dict[End, Place] = {}
        bare = dataclasses.replace(world, policies=tuple(p for p in world.policies if p.tier is not Tier.TENANT))
        self._gates = Gates(bare)
        self._admin = {r.ref for p in bare.policies if p.tier is Tier.ADMIN for rs in p.rules.values() for r in rs}

    def find(self, kind: Kind) -> Ends | None:
        """Find both ends; None where one is gone."""
        return self._gates.finder.find(kind.told[0])

    def concerns(self, kind: Kind) -> bool:
        """Say whether a VM of the scope is, or was by its path, one of the ends."""
        first = kind.told[0]
        return any(
            path is not None and self._scope.contains(Scope(path.rpartition(":")[0]))
            for path in (first.source, first.target)
        )

    def concerned(self, ends: Ends) -> bool:
        """Say whether a gate of a VM of the scope judges a side."""
        return self._of(ends.source).vm is not None or self._of(ends.target).vm is not None

    def judged(self, kind: Kind, amount: Amount, ends: Ends) -> Found:
        """Ask the sides that are the scope's."""
        service, source, target = kind.service, self._of(ends.source), self._of(ends.target)
        egress = ingress = None
        if source.vm is not None:
            egress = self._gates.judge(ends, Direction.EGRESS, service.protocol, service.first)
        if target.vm is not None:
            ingress = self._gates.judge(ends, Direction.INGRESS, service.protocol, service.first)
        return Found(kind, service, amount, source, target, egress, ingress)

    def overrules(self, found: Found) -> Said | None:
        """Return what denies it before rules of the Tenant tier are asked on all sides of the scope; None: they can admit it."""
        for said in (found.egress, found.ingress):
            if said is not None and said.action is Action.DENY and self.is_final(said):
                return said
        return None

    def needs_egress(self, admitted: Iterable[Found]) -> bool:
        """Say whether egress has to be governed."""
        mine = [vm for vm in self._world.vms.values() if self._scope.contains(vm.scope)]
        tier = [p for p in self._world.policies if p.tier is Tier.TENANT and not p.staged]
        governing = [policy.subject for policy in tier if Direction.EGRESS in policy.rules]
        if any(subject.contains(vm.scope, vm.labels) for subject in governing for vm in mine):
            return True
        said = (found.egress for found in admitted)
        return any(each is not None and each.action is Action.DENY for each in said)

    def is_final(self, said: Said) -> bool:
        """Say whether the Tenant tier is not asked any more."""
        return said.mode is Mode.ISOLATE or said.ref in self._admin

    def _of(self, end: End) -> Place:
        found = self._ends.get(end)
        if found is None:
            judged, holder = (
                None if by is None else self._roster.number[by[0].path] for by in (end.judged, end.holder)
            )
            ours = end.judged is not None and self._scope.contains(end.judged[0].scope)
            found = self._ends[end] = Place(
                judged if ours else None, holder, spot(end.address), judged is not None and not ours
            )
        return found


def summed(direction: Direction, found: Iterable[Found]) -> Needs:
    """Sum up what was seen on one side."""
    sums: dict[PortRange, dict[tuple[int, int | None, int], Amount]] = {}
    for each in found:
        mine, other, _ = each.side(direction)
        if mine.vm is not None:
            known = sums.setdefault(each.service, {})
            between = mine.vm, other.holder, other.address
            before = known.get(between)
            known[between] = before + each.amount if before else each.amount
    return Needs(
        direction,
        {
            service: [Need(*between, service, amount) for between, amount in known.items()]
            for service, known in sums.items()
        },
    )
