"""Random histories: a world and what happens to it, one update after another."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network

from hypothesis import strategies as st
from policies import LABELS, Vocabulary, policies
from renaming import Renaming, in_order
from tenants import HOSTS, opposite, tenants
from worlds import PREFIXES

from serai.model import address
from serai.model.inventory import Host, Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Clause, Direction, Group, InCidr, OnNetwork, Policy
from serai.model.tenancy import Mode, Scope
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


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """A world, and what happens to it."""

    world: World
    updates: tuple[Update, ...]

    @property
    def worlds(self) -> list[World]:
        """The world at first and after each update."""
        found = [self.world]
        for update in self.updates:
            found.append(update(found[-1]))
        return found

    @property
    def last(self) -> World:
        return apply(self.world, self.updates)


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


# How it is drawn

KINDS = (
    "add VM", "remove VM", "relabel VM", "set mode of VM", "move VM", "add policy", "edit policy", "remove policy",
    "add tenant", "remove tenant", "change quarantine", "change defaults",
)  # fmt: skip
_KINDS = st.sampled_from((*KINDS, *KINDS[:8]))
_LENGTHS = st.sampled_from((1, 2, 3, 4, 5, 6, 8))
_MODES, _HOSTS, _LABELS = st.sampled_from(tuple(Mode)), st.sampled_from(HOSTS), st.sampled_from(LABELS)
_WORDS = st.fixed_dictionaries({d: st.sampled_from((Action.ACCEPT, Action.DENY)) for d in Direction})


@st.composite
def histories(draw: st.DrawFn, worlds: st.SearchStrategy[World] | None = None) -> History:
    """A world (a tenancy unless told otherwise) and up to eight updates, each about what is there by then."""
    world = placed(draw(tenants() if worlds is None else worlds))
    now, updates = world, []
    for step in range(draw(_LENGTHS)):
        update = _update(draw, now, draw(_KINDS), step)
        if update:
            updates.append(update)
            now = update(now)
    return History(world, tuple(updates))


def _update(draw: st.DrawFn, world: World, kind: str, step: int) -> Update | None:
    """An update of this kind; None where there is nothing left that it could be about."""
    if kind.endswith("VM"):
        return _vm_update(draw, world, kind, step)
    if kind.endswith("policy"):
        return _policy_update(draw, world, kind, step)
    if kind == "change quarantine":
        return set_quarantine(draw(st.sets(st.sampled_from(PREFIXES), max_size=2)))
    if kind == "change defaults":
        return set_last_word(draw(_WORDS))
    there = sorted({scope.tenant for scope in scopes_of(world) if scope.tenant})
    if not there or (len(there) < 2 and kind == "remove tenant"):
        return None
    one = draw(st.sampled_from(there))
    return remove_tenant(one) if kind == "remove tenant" else add_tenant(one, f"new{step}", step, world)


def _vm_update(draw: st.DrawFn, world: World, kind: str, step: int) -> Update | None:
    if kind == "add VM":
        networks = [n for _, n in sorted(world.networks.items()) if isinstance(n.subnets[0], IPv4Network)]
        homes = [scope for scope in scopes_of(world) if scope != ROOT]
        if not homes or not networks:
            return None
        scope = draw(st.sampled_from(homes))
        near = [n for n in networks if n.scope.tenant in (None, scope.tenant)]
        network = draw(st.sampled_from(near or networks))
        return put_vm(_new_vm(scope, network, draw(_LABELS), draw(_HOSTS), step), kind)
    if not world.vms:
        return None
    vm = world.vms[draw(st.sampled_from(sorted(world.vms)))]
    match kind:
        case "remove VM":
            return remove_vm(vm.path)
        case "relabel VM":
            return put_vm(dataclasses.replace(vm, labels=draw(_LABELS)), kind)
        case "set mode of VM":
            return put_vm(dataclasses.replace(vm, mode=draw(_MODES)), kind)
        case _:
            return put_vm(dataclasses.replace(vm, host=draw(_HOSTS)), kind)


def _new_vm(scope: Scope, network: Network, labels: dict[str, str], host: str, step: int) -> VirtualMachine:
    """A VM whose addresses nobody has: drawn VMs have low ones."""
    addresses = tuple(subnet[200 + step] for subnet in network.subnets)
    name = f"new{step}"
    vnic = Vnic(
        id=vnic_id(scope, name, "eth0"), name="eth0", network=network, mac=Mac(f"52:54:02:00:00:{step:02x}"),
        addresses=addresses,
    )  # fmt: skip
    return VirtualMachine(
        name=name, scope=scope, labels=labels, mode=Mode.ENFORCE, vnics=(vnic,), host=host, domain=name
    )


def _policy_update(draw: st.DrawFn, world: World, kind: str, step: int) -> Update | None:
    scopes, networks = scopes_of(world), tuple(sorted(world.networks))
    if not networks:
        return None
    words = Vocabulary(scopes=(ROOT, *(s for s in scopes if s != ROOT)), networks=networks, prefixes=PREFIXES)
    if kind == "add policy":
        return put_policy(draw(policies(words, name=f"new{step}")), kind)
    if not world.policies:
        return None
    one = draw(st.sampled_from(world.policies))
    if kind == "remove policy":
        return remove_policy(path_of(one))
    match draw(st.sampled_from(("opposite", "other", "staged"))):
        case "opposite":
            return put_policy(opposite(one), kind)
        case "staged":
            return put_policy(dataclasses.replace(one, staged=not one.staged), kind)
        case _:
            return put_policy(draw(policies(words, name=one.name, scopes=(one.scope,))), kind)
