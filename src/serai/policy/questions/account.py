"""How one side came to its verdict: every rule that was looked at before, and why it was passed over."""

from __future__ import annotations

import dataclasses
import enum

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, PortRange, Rule, RuleRef, Tier
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.match import Remote, has_port, is_peer, matches
from serai.policy.stages import levels


class Why(enum.StrEnum):
    """Why a rule was passed over, or a tier not asked."""

    OTHER_PEERS = "other-peers"
    """It is about these ports, of other peers."""
    OTHER_PORTS = "other-ports"
    """It is about this peer, on other ports."""
    OTHER_TRAFFIC = "other-peers-and-ports"
    """It has neither the peer nor the port."""
    STAGED = "staged"
    """Its policy is not in force."""
    PASS = "pass"  # noqa: S105  # an action, not a secret
    """It matched, and said to go on at the next level."""
    LEFT = "level-left"
    """A Pass had left its level already."""
    DECIDED = "decided"
    """A tier before it had decided."""
    GOVERNED = "governed"
    """The Tenant tier governs the VM in this direction, so that the Baseline tier has no say."""
    ISOLATED = "isolated"
    """No policy is asked about a VM in quarantine."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A rule that was asked, or would have been, before the one that decided."""

    ref: RuleRef
    why: Why
    ports: tuple[PortRange, ...] = ()
    """With ``OTHER_PORTS``: those on which it is about this peer."""
    by: RuleRef | None = None
    """With ``LEFT``: the Pass."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """A tier that has rules for the VM and was not asked."""

    tier: Tier
    why: Why


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one side looked at, in order."""

    passed_over: tuple[PassedOver, ...] = ()
    """All rules for the VM up to the one that decided; all of the tiers that were asked where none did."""
    unasked: tuple[Unasked, ...] = ()


def account(  # noqa: PLR0917 (the same question as judge_side's)
    world: World,
    vm: VirtualMachine,
    vnic: Vnic,
    direction: Direction,
    remote_address: Address,
    protocol: int,
    port: int,
    *,
    staged: bool = False,
) -> Account:
    """Retrace how ``judge_side``, which takes the same arguments, comes to its decision."""
    asked = levels(world.policies, vm, direction)
    with_rules = [level[0].tier for level in asked if any(policy.rules[direction] for policy in level)]
    tiers = [tier for tier in Tier if tier in with_rules]
    if vm.mode is Mode.ISOLATE:
        return Account(unasked=tuple(Unasked(tier=tier, why=Why.ISOLATED) for tier in tiers))
    remote = Remote(address=remote_address, holder=world.holder(vnic.network.routing_domain, remote_address))
    governed = any(policy.tier is Tier.TENANT and staged >= policy.staged for level in asked for policy in level)
    passed_over: list[PassedOver] = []
    for level in asked:
        if governed and level[0].tier is Tier.BASELINE:
            unasked = tuple(Unasked(tier=tier, why=Why.GOVERNED) for tier in tiers if tier is Tier.BASELINE)
            return Account(passed_over=tuple(passed_over), unasked=unasked)
        left: RuleRef | None = None
        for policy in level:
            for rule in policy.rules[direction]:
                if policy.staged and not staged:
                    passed_over.append(PassedOver(ref=rule.ref, why=Why.STAGED))
                elif left:
                    passed_over.append(PassedOver(ref=rule.ref, why=Why.LEFT, by=left))
                elif not matches(rule, remote, protocol, port):
                    passed_over.append(_mismatch(rule, remote, protocol, port))
                elif rule.action is Action.PASS:
                    passed_over.append(PassedOver(ref=rule.ref, why=Why.PASS))
                    left = rule.ref
                else:
                    behind = tiers[tiers.index(policy.tier) + 1 :]
                    return Account(
                        passed_over=tuple(passed_over),
                        unasked=tuple(Unasked(tier=tier, why=Why.DECIDED) for tier in behind),
                    )
    return Account(passed_over=tuple(passed_over))


def _mismatch(rule: Rule, remote: Remote, protocol: int, port: int) -> PassedOver:
    with_peer = [clause for clause in rule.clauses if is_peer(clause.peer, remote)]
    if with_peer:
        ports = tuple(dict.fromkeys(ports for clause in with_peer for ports in clause.ports))
        return PassedOver(ref=rule.ref, why=Why.OTHER_PORTS, ports=ports)
    with_port = any(has_port(clause, protocol, port) for clause in rule.clauses)
    return PassedOver(ref=rule.ref, why=Why.OTHER_PEERS if with_port else Why.OTHER_TRAFFIC)
