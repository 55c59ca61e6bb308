"""What a suggested policy does not say: sentences for the person who reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from serai.model.policy import Direction, Policy, Tier
from serai.model.ports import format_ports
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.traffic.beyond import Beyond
from serai.policy.traffic.evidence import count, many, moment
from serai.policy.traffic.gates import Said
from serai.policy.traffic.kinds import Kind, Scan
from serai.policy.traffic.seen import Amount, total

FEW = 5
"""So many VMs are named."""
MOST = 20
"""So many conversations are listed of each sort, the largest first."""


def standing(world: World, scope: Scope, directions: Sequence[Direction]) -> Iterator[str]:
    """Say which policies the suggested ones are to replace, and what is left ungoverned."""
    tier = sorted(f"{p.scope}:{p.name}" for p in world.policies if _stands(p, world, scope))
    if tier:
        more = f" and {len(tier) - MOST} more" if len(tier) > MOST else ""
        yield f"to stand in the place of {', '.join(tier[:MOST])}{more}: beside them it admits what they do as well"
    if Direction.EGRESS not in directions:
        yield "egress is not governed: nothing denies what these VMs open"


def ungoverned(vms: Mapping[Direction, Sequence[str]]) -> Iterator[str]:
    """Say for whom the suggested policies do not speak: VMs of which nothing was seen that has to be admitted."""
    for direction, paths in vms.items():
        if paths:
            more = f" and {len(paths) - FEW} more" if len(paths) > FEW else ""
            yield (
                f"{direction} of {count(len(paths), 'VM')} is not governed, for nothing was seen that has to be admitted: "
                f"{', '.join(paths[:FEW])}{more}"
            )


def denied(kinds: Sequence[Kind]) -> Iterator[str]:
    """List what was denied."""
    amounts = [(kind, total(map(Amount.of, kind.denials))) for kind in kinds]
    for kind, amount in sorted(amounts, key=lambda pair: -pair[1].packets)[:MOST]:
        rule = next((c.rule for c in kind.denials if c.rule), "")
        by = f" by {rule}" if rule else ""
        at_times = "at times, but not always, and admitted" if kind.admitted else "and not admitted"
        yield f"denied{by} {at_times}: {_told(kind)}, {count(amount.packets, 'packet')}, last {moment(amount.last)} UTC"
    yield from _more(kinds, "denied")


def scanning(scans: Sequence[Scan]) -> Iterator[str]:
    """List who scanned."""
    for scan in scans:
        yield (
            f"{scan.source} scans: {count(scan.ports, 'port')} of {count(scan.targets, 'end')} gave no answer; "
            f"{count(len(scan.left_out), 'kind')} of conversations without one, or seen once, not admitted"
        )


def overruled(found: Sequence[tuple[Kind, Said]]) -> Iterator[str]:
    """List what no Tenant policy can admit."""
    for kind, said in found[:MOST]:
        yield f"not admitted, because {said.ref.text} denies it before the Tenant tier is asked: {_told(kind)}"
    yield from _more(found, "denied before the Tenant tier")


def gone(kinds: Sequence[Kind]) -> Iterator[str]:
    """Say of how many an end is there no more."""
    if kinds:
        names = sorted({_told(kind) for kind in kinds})
        more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
        yield f"not admitted, because an end is not there any more: {'; '.join(names[:MOST])}{more}"


def abroad(kinds: Sequence[Kind], scope: Scope) -> Iterator[str]:
    """Say how many conversations others have a say in as well."""
    if kinds:
        number = count(len(kinds), "kind")
        yield f"other policies have to accept {number} of conversations too, of which one end is a VM outside of {scope}"


def beyond(found: Beyond) -> Iterator[str]:
    """Say what is admitted and was not seen."""
    if found.vms:
        yield f"admitted, but not seen: {count(found.vms, 'pair')} of VMs on a port"
    if found.addresses:
        yield f"admitted, but not seen: {many(found.addresses)} pairs of a VM and an address on a port"


def _stands(policy: Policy, world: World, scope: Scope) -> bool:
    if policy.tier is not Tier.TENANT or policy.staged:
        return False
    about = policy.subject.scope
    if not (about.contains(scope) or scope.contains(about)):
        return False
    vms = (vm for vm in world.vms.values() if scope.contains(vm.scope))
    return any(policy.subject.contains(vm.scope, vm.labels) for vm in vms)


def _told(kind: Kind) -> str:
    return f"{kind.source} to {kind.target} on {format_ports(kind.service)}"


def _more(found: Sequence[object], what: str) -> Iterator[str]:
    if len(found) > MOST:
        yield f"{len(found) - MOST} more kinds of conversations were {what}"
