"""The least policy that admits what was seen of the VMs of a scope."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from serai.model.policy import Direction, PortRange
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.traffic import notes
from serai.policy.traffic.below import Below, Found, summed
from serai.policy.traffic.beyond import Beyond, Counter
from serai.policy.traffic.document import document
from serai.policy.traffic.drafts import Draft, drafts
from serai.policy.traffic.evidence import count, moment
from serai.policy.traffic.gates import Said
from serai.policy.traffic.kinds import Kind, Scan, kinds, scans
from serai.policy.traffic.offers import Offers
from serai.policy.traffic.roster import Roster, bits, union
from serai.policy.traffic.seen import Conversation
from serai.policy.traffic.selection import Selector


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
    ungoverned: Mapping[Direction, Sequence[str]]
    """Paths of the scope's VMs that it does not select, in order, of each direction that it governs."""


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

    They are meant to stand in the place of the tier's policies for these VMs. Ingress is governed for all VMs of the scope to
    which something has to be admitted. Egress is only where something has to accept it: where egress policies of the
    Tenant tier select a VM of the scope now, or where without them some conversation could not leave. Then it is
    governed for all VMs of the scope that open something.

    Args:
        world: what is in force.
        scope: whose VMs the policies are about.
        conversations: what was seen; others' are left alone.
        now: for the heading.
        services: the ports of Services by path, to be referred to.
        egress: govern egress, or do not; None: as said above.
    """
    roster = Roster(world)
    below = Below(world, scope, roster)
    left = _Left()
    admitted: list[Found] = []
    for each in _seen(below, conversations, left):
        said = below.overrules(each)
        if said is None:
            admitted.append(each)
        else:
            left.overruled.append((each.kind, said))
    directions = [Direction.INGRESS]
    if egress if egress is not None else below.needs_egress(admitted):
        directions.append(Direction.EGRESS)
    selector, counter = Selector(roster), Counter(world, roster)
    rules: list[Draft] = []
    beyond = Beyond()
    ungoverned: dict[Direction, tuple[str, ...]] = {}
    for direction in directions:
        judged = [(each, said) for each in admitted if (said := each.side(direction)[2])]
        needed = [each for each, said in judged if not below.is_final(said)]
        known = summed(direction, (each for each, _ in judged))
        mine = drafts(known if len(needed) == len(judged) else summed(direction, needed), roster, selector)
        beyond += counter.beyond(mine, known)
        rules += mine
        free = roster.members(roster.under(scope)) & ~union(draft.subject.chosen for draft in mine)
        ungoverned[direction] = tuple(roster.vms[number].path for number in bits(free))
    heading = _heading(scope, admitted, now, [*notes.ungoverned(ungoverned), *notes.beyond(beyond)])
    return Suggestion(
        yaml=heading + document(rules, Offers(services or {}), world.policies),
        notes=(
            *notes.standing(world, scope, directions),
            *notes.ungoverned(ungoverned),
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
        ungoverned=ungoverned,
    )


def _seen(below: Below, conversations: Iterable[Conversation], left: _Left) -> list[Found]:
    """Return what gates let pass of the scope's VMs, in order; note what they did not, and scans."""
    passed: list[Found] = []
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


def _heading(scope: Scope, admitted: Sequence[Found], now: datetime, remarks: Iterable[str]) -> str:
    lines = [f"What was seen of {scope}, as policies. Written {moment(now)} UTC."]
    if admitted:
        first, last = min(each.amount.first for each in admitted), max(each.amount.last for each in admitted)
        lines.append(
            f"They admit {count(len(admitted), 'kind')} of conversations, seen {moment(first)} to {moment(last)} UTC."
        )
    lines += remarks
    return "".join(f"# {line}\n" for line in lines)
