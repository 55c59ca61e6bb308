"""Random histories: a world and what happens to it, one update after another."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network

from hypothesis import strategies as st
from policies import LABELS, Vocabulary, policies
from tenants import HOSTS, opposite, tenants
from updates import (
    ROOT,
    Update,
    add_tenant,
    apply,
    path_of,
    placed,
    put_policy,
    put_vm,
    remove_policy,
    remove_tenant,
    remove_vm,
    scopes_of,
    set_last_word,
    set_quarantine,
)
from worlds import PREFIXES

from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Direction
from serai.model.tenancy import Mode, Scope
from serai.model.world import World


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


KINDS = (
    "add VM", "remove VM", "relabel VM", "set mode of VM", "move VM", "add policy", "edit policy", "remove policy",
    "add tenant", "remove tenant", "change quarantine", "change defaults",
)  # fmt: skip
_KINDS = st.sampled_from((*KINDS, *KINDS[:8]))
_LENGTHS = st.sampled_from((1, 2, 3, 4, 5, 6, 8))
_MODES, _HOSTS, _LABELS = st.sampled_from(tuple(Mode)), st.sampled_from(HOSTS), st.sampled_from(LABELS)
_WORDS = tuple(
    {Direction.INGRESS: inward, Direction.EGRESS: outward}
    for inward in (Action.DENY, Action.ACCEPT)
    for outward in (Action.ACCEPT, Action.DENY)
)


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
        return set_last_word(draw(st.sampled_from([word for word in _WORDS if word != dict(world.last_word)])))
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
