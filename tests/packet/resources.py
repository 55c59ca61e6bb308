"""Worlds as files: the resources that say what a world made in a test says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from policies import Service
from updates import scopes_of

from serai.model.inventory import VirtualMachine
from serai.model.policy import Clause, Direction, Group, InCidr, OnNetwork, Peer, Policy, Rule
from serai.model.ports import format_ports
from serai.model.world import World

Resource = Mapping[str, Any]


def written(world: World) -> dict[str, str]:
    """Write a world down, file by file."""
    services = _services(world)
    resources = [
        _resource("Site", "site", None, _site(world)),
        *(
            _resource("Tenant", scope.parts[0], None, {"applications": _applications(world, scope)})
            for scope in scopes_of(world)
            if len(scope.parts) == 1
        ),
        *(_resource("Host", name, None, {}) for name in world.hosts),
        *(
            _resource(
                "Network", n.name, n.scope, {"routingDomain": n.routing_domain, "subnets": list(map(str, n.subnets))}
            )
            for n in world.networks.values()
        ),
        *(_resource("Service", s.path.rpartition(":")[2], s.path.partition(":")[0], _service(s)) for s in services),
        *(_resource("VirtualMachine", vm.name, vm.scope, _machine(vm)) for vm in world.vms.values()),
        *(_resource("Policy", p.name, p.scope, _policy(p, services)) for p in world.policies),
    ]
    return {"world.yaml": "\n---\n".join(map(json.dumps, resources))}


def _services(world: World) -> list[Service]:
    """The services that rules must have been made of whose clauses differ in their ports."""
    mixed = {
        (clause.peer, clause.ports): None
        for policy in world.policies
        for rules in policy.rules.values()
        for rule in rules
        for clause in rule.clauses
        if clause.ports and len({c.ports for c in rule.clauses}) > 1
    }
    return [
        Service(path=f"{group.scope}:s{at}", ports=ports, group=group)
        for at, (group, ports) in enumerate(mixed)
        if isinstance(group, Group)
    ]


def _resource(kind: str, name: str, scope: str | None, spec: Resource) -> Resource:
    metadata = {"name": name} if scope is None else {"name": name, "scope": scope}
    return {"apiVersion": "serai.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _applications(world: World, tenant: str) -> list[Resource]:
    scopes = (scope.parts for scope in scopes_of(world) if len(scope.parts) == 2)
    return [{"name": name} for above, name in scopes if f"/{above}" == tenant]


def _site(world: World) -> Resource:
    defaults = {str(direction): str(action) for direction, action in world.last_word.items()}
    return {"defaults": defaults, "quarantine": {"allow": list(map(str, world.quarantine))}}


def _machine(vm: VirtualMachine) -> Resource:
    vnics = [
        {"name": v.name, "network": v.network.path, "mac": v.mac, "addresses": list(map(str, v.addresses))}
        for v in vm.vnics
    ]
    spec = {"labels": dict(vm.labels), "mode": str(vm.mode), "domain": vm.domain, "host": vm.host, "vnics": vnics}
    return {field: value for field, value in spec.items() if value is not None}


def _service(service: Service) -> Resource:
    assert service.group
    return {"ports": list(map(format_ports, service.ports)), "selector": _selector(service.group)}


def _selector(group: Group) -> Resource:
    wanted = [
        {"key": e.key, "operator": str(e.operator)} | ({"values": sorted(e.values)} if e.values else {})
        for e in sorted(group.expressions, key=str)
    ]
    return {"matchExpressions": wanted}


def _policy(policy: Policy, services: Collection[Service]) -> Resource:
    rules = {
        str(direction): [_rule(rule, direction, services) for rule in found]
        for direction, found in policy.rules.items()
    }
    subject = {"scope": policy.subject.scope, "selector": _selector(policy.subject)}
    return {
        "tier": str(policy.tier), "priority": policy.priority, "staged": policy.staged, "subject": subject, **rules
    }  # fmt: skip


def _rule(rule: Rule, direction: Direction, services: Collection[Service]) -> Resource:
    found: dict[str, Any] = {"name": rule.ref.text.rpartition("/")[2], "action": str(rule.action)}
    several = {clause.ports for clause in rule.clauses}
    if len(several) == 1 and (ports := several.pop()):
        found["ports"] = list(map(format_ports, ports))
    if rule.clauses != (Clause(ports=rule.clauses[0].ports),):
        field = "from" if direction is Direction.INGRESS else "to"
        found[field] = [_peer(c, services, by_service="ports" not in found) for c in rule.clauses]
    return found


def _peer(clause: Clause, services: Collection[Service], *, by_service: bool) -> Resource:
    if by_service and clause.ports:
        [service] = [s for s in services if (s.group, s.ports) == (clause.peer, clause.ports)]
        return {"service": service.path}
    return _plain(clause.peer)


def _plain(peer: Peer | None) -> Resource:
    match peer:
        case Group():
            return {"scope": peer.scope, "selector": _selector(peer)} if peer.expressions else {"scope": peer.scope}
        case OnNetwork():
            return {"network": peer.path}
        case InCidr():
            return {"cidr": str(peer.prefix)}
        case None:
            message = "anybody stands alone"
            raise AssertionError(message)
