"""What can happen to a world: each update is a plain function from one world to the next."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

from renaming import Renaming, in_order
from tenants import HOSTS

from serai.model import address
from serai.model.inventory import Host, Mac, VirtualMachine, vnic_id
from serai.model.policy import Action, Clause, Direction, Group, InCidr, OnNetwork, Policy
from serai.model.tenancy import Scope
from serai.model.world import World

ROOT = Scope("/")


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """One thing that happens to a world: a plain function of it. What it puts there may or may not be there already."""

    kind: str
    """E.g. ``relabel VM``."""
    about: str
    """The path of a VM or a policy, or the name of a tenant; ``site`` for the site's settings."""
    change: Callable[[World], World] = dataclasses.field(repr=False, compare=False)
    parts: tuple[Update, ...] = dataclasses.field(default=(), repr=False, compare=False)
    """Two updates that come to the same: the thing goes away, and is there again. None where there is no such way."""

    def __call__(self, world: World) -> World:
        return self.change(world)

    @property
    def subject(self) -> tuple[str, str]:
        """What kind of thing it is about, and which one."""
        return self.kind.rpartition(" ")[2], self.about


def apply(world: World, updates: Iterable[Update]) -> World:
    return functools.reduce(lambda before, update: update(before), updates, world)


def split(updates: Iterable[Update]) -> tuple[Update, ...]:
    """The same history in smaller steps."""
    return tuple(part for update in updates for part in (update.parts or (update,)))


def commute(one: Update, other: Update) -> bool:
    """Say whether two updates come to the same in either order: they are about things that have nothing in common."""
    kinds = {one.subject[0]: one.about, other.subject[0]: other.about}
    if one.subject == other.subject:
        return False
    if "tenant" not in kinds:
        return True
    # A tenant takes its VMs along, its networks, and what policies say of it.
    others = [about for kind, about in (one.subject, other.subject) if kind != "tenant"]
    if not others or "policy" in kinds:
        return False
    return all(Scope(about.partition(":")[0]).tenant != kinds["tenant"] for about in others if about.startswith("/"))


def placement(world: World) -> dict[str, frozenset[str]]:
    """The VMs of each host, by path; a VM that is expected nowhere is on no host."""
    hosts = {*world.hosts, *(vm.host for vm in world.vms.values() if vm.host)}
    return {host: frozenset(p for p, vm in world.vms.items() if vm.host == host) for host in sorted(hosts)}


def placed(world: World) -> World:
    """The same world with its VMs spread over hosts, where they were on none."""
    vms = {
        path: vm if vm.host else dataclasses.replace(vm, host=HOSTS[at % len(HOSTS)])
        for at, (path, vm) in enumerate(sorted(world.vms.items()))
    }
    return dataclasses.replace(world, vms=vms, hosts={name: Host(name=name) for name in HOSTS})


# What can happen


def remove_vm(path: str) -> Update:
    def change(world: World) -> World:
        return dataclasses.replace(world, vms={p: vm for p, vm in world.vms.items() if p != path})

    return Update("remove VM", path, change)


def put_vm(vm: VirtualMachine, kind: str) -> Update:
    """``vm`` in the place of whatever is at its path."""

    def change(world: World) -> World:
        return dataclasses.replace(world, vms=dict(sorted({**world.vms, vm.path: vm}.items())))

    again = Update("return VM", vm.path, change)
    return Update(kind, vm.path, change, () if kind == "add VM" else (remove_vm(vm.path), again))


def remove_policy(path: str) -> Update:
    def change(world: World) -> World:
        return dataclasses.replace(world, policies=tuple(p for p in world.policies if path_of(p) != path))

    return Update("remove policy", path, change)


def put_policy(policy: Policy, kind: str) -> Update:
    """``policy`` in the place of whatever has its path."""

    def change(world: World) -> World:
        others = [p for p in world.policies if path_of(p) != path_of(policy)]
        return dataclasses.replace(world, policies=in_order([*others, policy]))

    again = Update("return policy", path_of(policy), change)
    return Update(
        kind, path_of(policy), change, () if kind == "add policy" else (remove_policy(path_of(policy)), again)
    )


def remove_tenant(tenant: str) -> Update:
    """A tenant goes, with its VMs, networks and policies, and with what others' policies say of it."""

    def gone(scope: str) -> bool:
        return Scope(scope).tenant == tenant

    def stays(clause: Clause) -> bool:
        match clause.peer:
            case Group():
                return not gone(clause.peer.scope)
            case OnNetwork():
                return not gone(clause.peer.path.partition(":")[0])
            case InCidr() | None:
                return True

    def without(policy: Policy) -> Policy:
        rules = {
            direction: tuple(
                dataclasses.replace(rule, clauses=tuple(filter(stays, rule.clauses)))
                for rule in found
                if any(map(stays, rule.clauses))
            )
            for direction, found in policy.rules.items()
        }
        return dataclasses.replace(policy, rules=rules)

    def vm_without(vm: VirtualMachine) -> VirtualMachine:
        return dataclasses.replace(vm, vnics=tuple(v for v in vm.vnics if not gone(v.network.scope)))

    def change(world: World) -> World:
        return dataclasses.replace(
            world,
            networks={path: n for path, n in world.networks.items() if not gone(n.scope)},
            vms={path: left for path, vm in world.vms.items() if not gone(vm.scope) and (left := vm_without(vm)).vnics},
            policies=tuple(without(p) for p in world.policies if not gone(p.scope) and not gone(p.subject.scope)),
        )

    return Update("remove tenant", tenant, change)


def add_tenant(like: str, tenant: str, number: int, world: World) -> Update:
    """Another tenant with the networks, VMs and policies that ``like`` has in ``world``, at its own addresses' place.

    ``number`` is what tells its MAC addresses from others'.
    """
    scopes = {scope: f"/{tenant}" + scope[len(like) + 1 :] for scope in scopes_of(world) if scope.tenant == like}
    renaming = Renaming(scopes=scopes)
    networks = {
        path: dataclasses.replace(network, scope=renaming.scope(network.scope), routing_domain=tenant)
        for path, network in world.networks.items()
        if network.scope.tenant == like and network.routing_domain == like
    }
    vms = []
    for at, vm in enumerate(vm for _, vm in sorted(world.vms.items()) if vm.scope.tenant == like):
        scope = renaming.scope(vm.scope)
        vnics = tuple(
            dataclasses.replace(
                v, id=vnic_id(scope, vm.name, v.name), network=networks[v.network.path],
                mac=Mac(f"52:54:01:{number:02x}:{at:02x}:{card:02x}"),
            )
            for card, v in enumerate(vm.vnics)
            if v.network.path in networks
        )  # fmt: skip
        if vnics:
            vms.append(dataclasses.replace(vm, scope=scope, vnics=vnics, domain=f"{tenant}-{vm.name}"))
    copied = [renaming.policy(p) for p in world.policies if p.scope.tenant == like]
    networks |= {p: n for p, n in world.networks.items() if n.scope.tenant != like}
    written = [p for p in copied if not _missing(p, {*networks, *(n.path for n in networks.values())})]

    def change(before: World) -> World:
        return dataclasses.replace(
            before,
            networks={**before.networks, **{n.path: n for n in networks.values() if n.scope.tenant == tenant}},
            vms=dict(sorted({**before.vms, **{vm.path: vm for vm in vms}}.items())),
            policies=in_order([*{path_of(p): p for p in (*before.policies, *written)}.values()]),
        )

    return Update("add tenant", tenant, change)


def _missing(policy: Policy, networks: set[str]) -> bool:
    """Does the policy speak of a network that has not been copied, because it is in somebody else's domain?"""
    clauses = (c for rules in policy.rules.values() for rule in rules for c in rule.clauses)
    return any(isinstance(c.peer, OnNetwork) and c.peer.path not in networks for c in clauses)


def set_quarantine(prefixes: Iterable[address.Prefix]) -> Update:
    value = tuple(sorted(set(prefixes), key=address.in_order))
    return Update("change quarantine", "site", lambda world: dataclasses.replace(world, quarantine=value))


def set_last_word(value: Mapping[Direction, Action]) -> Update:
    return Update("change defaults", "site", lambda world: dataclasses.replace(world, last_word=dict(value)))


def path_of(policy: Policy) -> str:
    return f"{policy.scope}:{policy.name}"


def scopes_of(world: World) -> list[Scope]:
    """Every scope that something in the world is in or speaks of, and those above, in order."""
    clauses = (c for p in world.policies for rules in p.rules.values() for rule in rules for c in rule.clauses)
    found = {
        *(vm.scope for vm in world.vms.values()), *(network.scope for network in world.networks.values()),
        *(scope for policy in world.policies for scope in (policy.scope, policy.subject.scope)),
        *(c.peer.scope for c in clauses if isinstance(c.peer, Group)),
    }  # fmt: skip
    return sorted({above for scope in found for above in scope.lineage})
