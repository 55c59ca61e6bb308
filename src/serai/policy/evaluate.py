"""The slow, obvious evaluator: what the policies say of one connection, read straight off their meaning.

The compiled rulesets and the gate have to agree with it. It looks at every policy every time, on purpose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, Policy, Rule, RuleRef, Tier
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.match import Remote, matches


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A new connection, as its first packet tells it."""

    routing_domain: str
    """Where both addresses mean what they mean."""
    source: Address
    destination: Address
    protocol: int
    """IANA number."""
    port: int = 0
    """Of the destination; for ICMP and ICMPv6 ``type * 256 + code``; 0 for protocols without ports."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one side says."""

    action: Action
    """Accept or Deny."""
    ref: RuleRef
    """What decided."""
    tier: Tier | None
    """The tier that decided; None for the built-in last word, and for a VM in quarantine."""
    level: Scope | None
    """The scope of the policy that decided; None where no rule did."""
    passed: tuple[RuleRef, ...] = ()
    """The Pass rules met on the way."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What both sides say. A side is None where that end is no VM of the routing domain."""

    source: tuple[VirtualMachine, Vnic] | None
    destination: tuple[VirtualMachine, Vnic] | None
    egress: Decision | None
    """Of the source's vNIC."""
    ingress: Decision | None
    """Of the destination's vNIC."""

    @property
    def action(self) -> Action:
        """Accept if no side denies."""
        denied = any(side is not None and side.action is Action.DENY for side in (self.egress, self.ingress))
        return Action.DENY if denied else Action.ACCEPT

    @property
    def passes(self) -> bool:
        """Say whether packets get through: a side in mode ``observe`` denies in words only."""
        sides = ((self.source, self.egress), (self.destination, self.ingress))
        return not any(
            end and side and side.action is Action.DENY and end[0].mode is not Mode.OBSERVE for end, side in sides
        )


def judge(world: World, connection: Connection, *, staged: bool = False) -> Verdict:
    """Judge a new connection on both sides.

    Args:
        world: everything that the verdict depends on.
        connection: the connection.
        staged: judge as if staged policies were in force.
    """
    source = world.holder(connection.routing_domain, connection.source)
    destination = world.holder(connection.routing_domain, connection.destination)
    service = connection.protocol, connection.port
    egress = ingress = None
    if source:
        egress = judge_side(world, *source, Direction.EGRESS, connection.destination, *service, staged=staged)
    if destination:
        ingress = judge_side(world, *destination, Direction.INGRESS, connection.source, *service, staged=staged)
    return Verdict(source=source, destination=destination, egress=egress, ingress=ingress)


def judge_side(  # noqa: PLR0917 (one question with many parts, answered in one piece)
    world: World,
    vm: VirtualMachine,
    vnic: Vnic,
    direction: Direction,
    remote_address: Address,
    protocol: int,
    port: int,
    *,
    staged: bool = False,
) -> Decision:
    """Judge a new connection on one side: ``direction`` of ``vnic``, which is one of ``vm``'s.

    Args:
        world: everything that the verdict depends on.
        vm: the VM that the side belongs to.
        vnic: its vNIC.
        direction: egress where the VM opens the connection, ingress where the remote end does.
        remote_address: the other end, in the vNIC's own routing domain.
        protocol: IANA number.
        port: of the destination; for ICMP and ICMPv6 ``type * 256 + code``.
        staged: judge as if staged policies were in force.
    """
    if vm.mode is Mode.ISOLATE:
        return _judge_isolated(world, direction, remote_address)
    remote = Remote(address=remote_address, holder=world.holder(vnic.network.routing_domain, remote_address))
    policies = [
        policy
        for policy in world.policies
        if direction in policy.rules and policy.subject.contains(vm.scope, vm.labels) and (staged or not policy.staged)
    ]
    passed: list[RuleRef] = []

    def decided(rule: Rule, policy: Policy) -> Decision:
        return Decision(action=rule.action, ref=rule.ref, tier=policy.tier, level=policy.scope, passed=tuple(passed))

    # 1. Admin tier, from the provider down to the VM's own scope. Pass goes on at the next level.
    for level in vm.scope.lineage:
        for rule, policy in _in_order(policies, direction, Tier.ADMIN, level):
            if matches(rule, remote, protocol, port):
                if rule.action is not Action.PASS:
                    return decided(rule, policy)
                passed.append(rule.ref)
                break

    # 2. Tenant tier, all scopes together. Who is selected and not matched is denied.
    for rule, policy in _in_order(policies, direction, Tier.TENANT):
        if matches(rule, remote, protocol, port):
            return decided(rule, policy)
    if any(policy.tier is Tier.TENANT for policy in policies):
        return Decision(
            action=Action.DENY,
            ref=RuleRef.unmatched(direction),
            tier=Tier.TENANT,
            level=None,
            passed=tuple(passed),
        )

    # 3. Baseline tier, from the VM's own scope up to the provider.
    for level in reversed(vm.scope.lineage):
        for rule, policy in _in_order(policies, direction, Tier.BASELINE, level):
            if matches(rule, remote, protocol, port):
                return decided(rule, policy)

    # 4. The site's last word.
    return Decision(
        action=world.last_word[direction],
        ref=RuleRef.builtin(direction),
        tier=None,
        level=None,
        passed=tuple(passed),
    )


def _judge_isolated(world: World, direction: Direction, remote: Address) -> Decision:
    """No policy is asked about a VM in quarantine, staged or not."""
    if any(remote in prefix for prefix in world.quarantine):
        return Decision(action=Action.ACCEPT, ref=RuleRef.quarantine(direction), tier=None, level=None)
    return Decision(action=Action.DENY, ref=RuleRef.isolated(direction), tier=None, level=None)


def _in_order(
    policies: Iterable[Policy], direction: Direction, tier: Tier, level: Scope | None = None
) -> Iterable[tuple[Rule, Policy]]:
    """Go through the rules of a tier (of one level, or all) by priority, name, scope and place."""
    asked = [p for p in policies if p.tier is tier and level in (None, p.scope)]
    for policy in sorted(asked, key=lambda p: (p.priority, p.name, p.scope)):
        for rule in policy.rules[direction]:
            yield rule, policy
