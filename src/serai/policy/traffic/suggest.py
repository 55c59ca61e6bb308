"""The least policy that admits what was seen of the VMs of a scope."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from serai.model.policy import Action, Direction, PortRange, Tier
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.traffic import notes
from serai.policy.traffic.beyond import Beyond, Counter
from serai.policy.traffic.document import document
from serai.policy.traffic.drafts import Draft, drafts
from serai.policy.traffic.ends import End, Ends
from serai.policy.traffic.evidence import count, moment
from serai.policy.traffic.gates import Gates, Said
from serai.policy.traffic.kinds import Kind, Scan, kinds, scans
from serai.policy.traffic.needs import Need, Needs
from serai.policy.traffic.offers import Offers
from serai.policy.traffic.roster import Roster
from serai.policy.traffic.seen import Amount, Conversation
from serai.policy.traffic.selection import Selector
from serai.policy.traffic.spots import spot


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A policy, and what it does not say."""

    yaml: str
    """As ``serai check`` takes it, beside the resources that are there; comments alone where nothing has to be admitted."""
    notes: tuple[str, ...]
    """What it does not admit or admits beyond, and why."""
    conversations: int
    """Kinds of conversations that it admits, those that need no rule among them."""
    admitted: tuple[Conversation, ...]
    """What gates told of these."""
    beyond: Beyond
    """What it admits and nobody was seen to do."""


class _End(NamedTuple):
    """An end, in the numbers of the roster."""

    vm: int | None
    """The VM of the scope whose gate judges this side; None: there is none."""
    holder: int | None
    """The VM that holds the address."""
    address: int
    is_beyond: bool
    """The gate of a VM that is not of the scope judges this side."""


class _Found(NamedTuple):
    """A kind of conversation, who the ends are now, and what their gates say where there is no Tenant tier."""

    kind: Kind
    service: PortRange
    amount: Amount
    """Of what gates let pass."""
    source: _End
    target: _End
    egress: Said | None
    """None: no gate of a VM of the scope is asked."""
    ingress: Said | None

    def side(self, direction: Direction) -> tuple[_End, _End, Said | None]:
        """Return one side: its own end, the other one, and what is said."""
        if direction is Direction.EGRESS:
            return self.source, self.target, self.egress
        return self.target, self.source, self.ingress


@dataclasses.dataclass(slots=True)
class _Left:
    """What is not admitted."""

    denied: list[Kind] = dataclasses.field(default_factory=list)
    gone: list[Kind] = dataclasses.field(default_factory=list)
    overruled: list[tuple[Kind, Said]] = dataclasses.field(default_factory=list)
    """What rules of the Tenant tier cannot admit."""
    scans: Sequence[Scan] = ()


def suggest(
    world: World,
    scope: Scope,
    conversations: Iterable[Conversation],
    *,
    now: datetime,
    services: Mapping[str, Sequence[PortRange]] | None = None,
    egress: bool | None = None,
) -> Suggestion:
    """Write the least policies of the Tenant tier for the VMs of ``scope`` that admit what was seen of them.

    They are meant to stand in the place of the tier's policies for these VMs. Ingress is always governed. Egress is only
    where something has to accept it: where egress policies of the Tenant tier select a VM of the scope now, or where
    without them some conversation could not leave. Then it is governed for all VMs of the scope that open something.

    Args:
        world: what is in force.
        scope: whose VMs the policies are about.
        conversations: what was seen; others' are left alone.
        now: for the heading.
        services: the ports of Services by path, to be referred to.
        egress: govern egress, or do not; None: as said above.
    """
    roster = Roster(world)
    below = _Below(world, scope, roster)
    left = _Left()
    found = _seen(below, conversations, left)
    admitted = [each for each in found if below.admits(each, left)]
    directions = [Direction.INGRESS]
    if egress if egress is not None else below.needs_egress(admitted):
        directions.append(Direction.EGRESS)
    selector, counter = Selector(roster), Counter(world, roster)
    rules: list[Draft] = []
    beyond = Beyond()
    for direction in directions:
        judged = [(each, said) for each in admitted if (said := each.side(direction)[2])]
        needed = [each for each, said in judged if not below.is_final(said)]
        known = _summed(direction, (each for each, _ in judged))
        mine = drafts(known if len(needed) == len(judged) else _summed(direction, needed), roster, selector)
        beyond += counter.beyond(mine, known)
        rules += mine
    heading = _heading(scope, admitted, beyond, now)
    return Suggestion(
        yaml=heading + document(rules, Offers(services or {}), world.policies),
        notes=(
            *notes.standing(world, scope, directions),
            *notes.denied(left.denied),
            *notes.scanning(left.scans),
            *notes.overruled(left.overruled),
            *notes.gone(left.gone),
            *notes.abroad([each.kind for each in admitted if each.source.is_beyond or each.target.is_beyond], scope),
            *notes.beyond(beyond),
        ),
        conversations=len(admitted),
        admitted=tuple(told for each in admitted for told in each.kind.told),
        beyond=beyond,
    )


class _Below:
    """What is said of the VMs of a scope where there is no Tenant tier."""

    def __init__(self, world: World, scope: Scope, roster: Roster) -> None:
        self._world, self._scope, self._roster = world, scope, roster
        self._ends: dict[End, _End] = {}
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

    def judged(self, kind: Kind, amount: Amount, ends: Ends) -> _Found:
        """Ask the sides that are the scope's."""
        service, source, target = kind.service, self._of(ends.source), self._of(ends.target)
        egress = ingress = None
        if source.vm is not None:
            egress = self._gates.judge(ends, Direction.EGRESS, service.protocol, service.first)
        if target.vm is not None:
            ingress = self._gates.judge(ends, Direction.INGRESS, service.protocol, service.first)
        return _Found(kind, service, amount, source, target, egress, ingress)

    def admits(self, found: _Found, left: _Left) -> bool:
        """Say whether rules of the Tenant tier can admit it on all sides of the scope; note where they cannot."""
        for said in (found.egress, found.ingress):
            if said is not None and said.action is Action.DENY and self.is_final(said):
                left.overruled.append((found.kind, said))
                return False
        return True

    def needs_egress(self, admitted: Iterable[_Found]) -> bool:
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

    def _of(self, end: End) -> _End:
        found = self._ends.get(end)
        if found is None:
            judged, holder = (
                None if by is None else self._roster.number[by[0].path] for by in (end.judged, end.holder)
            )
            ours = end.judged is not None and self._scope.contains(end.judged[0].scope)
            found = self._ends[end] = _End(
                judged if ours else None, holder, spot(end.address), judged is not None and not ours
            )
        return found


def _summed(direction: Direction, found: Iterable[_Found]) -> Needs:
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


def _seen(below: _Below, conversations: Iterable[Conversation], left: _Left) -> list[_Found]:
    """Return what gates let pass of the scope's VMs, in order; note what they did not, and scans."""
    passed: list[_Found] = []
    for kind in sorted(kinds(conversations), key=_order):
        ends = below.find(kind)
        if ends is None:
            if below.concerns(kind):
                left.gone.append(kind)
        elif below.concerned(ends):
            amount = kind.admitted
            if kind.denials:
                left.denied.append(kind)
            if amount is not None:
                passed.append(below.judged(kind, amount, ends))
    left.scans = scans((found.kind, found.amount) for found in passed)
    scanned = {id(kind) for scan in left.scans for kind in scan.left_out}
    return [found for found in passed if id(found.kind) not in scanned]


def _order(kind: Kind) -> tuple[object, ...]:
    service = kind.service
    return (str(kind.source), str(kind.target), service.protocol, service.first)


def _heading(scope: Scope, admitted: Sequence[_Found], beyond: Beyond, now: datetime) -> str:
    lines = [f"What was seen of {scope}, as policies. Written {moment(now)} UTC."]
    if admitted:
        first, last = min(each.amount.first for each in admitted), max(each.amount.last for each in admitted)
        lines.append(
            f"They admit {count(len(admitted), 'kind')} of conversations, seen {moment(first)} to {moment(last)} UTC."
        )
    lines += notes.beyond(beyond)
    return "".join(f"# {line}\n" for line in lines)
