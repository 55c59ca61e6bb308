"""Why nothing accepted a connection: the rules that nearly did."""

from __future__ import annotations

import dataclasses

from serai.model.address import Address
from serai.model.inventory import VirtualMachine, Vnic
from serai.model.policy import Action, Direction, PortRange, RuleRef, Tier
from serai.model.tenancy import Mode
from serai.model.world import World
from serai.policy.match import Remote, has_port, is_peer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A rule in force that accepts connections like the one in question, but not it."""

    ref: RuleRef
    ports: tuple[PortRange, ...]
    """The ports on which it accepts the peer; none: it is the peer that does not fit."""


def near_misses(  # noqa: PLR0917 (the same question as judge_side's)
    world: World,
    vm: VirtualMachine,
    vnic: Vnic,
    direction: Direction,
    remote_address: Address,
    protocol: int,
    port: int,
) -> tuple[NearMiss, ...]:
    """Return the Accept rules for ``vm`` of which a clause has the peer or the port, but none has both.

    They come by name. The arguments are those of ``judge_side``. No rule comes near a VM in quarantine.
    """
    if vm.mode is Mode.ISOLATE:
        return ()
    remote = Remote(address=remote_address, holder=world.holder(vnic.network.routing_domain, remote_address))
    found: list[NearMiss] = []
    policies = [
        policy
        for policy in world.policies
        if direction in policy.rules and policy.subject.contains(vm.scope, vm.labels) and not policy.staged
    ]
    governed = any(policy.tier is Tier.TENANT for policy in policies)
    for policy in policies:
        # Where a Tenant policy governs, the Baseline tier is never asked.
        if governed and policy.tier is Tier.BASELINE:
            continue
        for rule in policy.rules[direction]:
            with_peer = [clause for clause in rule.clauses if is_peer(clause.peer, remote)]
            with_port = [clause for clause in rule.clauses if has_port(clause, protocol, port)]
            both = any(clause in with_port for clause in with_peer)
            if rule.action is Action.ACCEPT and (with_peer or with_port) and not both:
                ports = tuple(dict.fromkeys(ports for clause in with_peer for ports in clause.ports))
                found.append(NearMiss(ref=rule.ref, ports=ports))
    return tuple(sorted(found, key=lambda miss: miss.ref))
