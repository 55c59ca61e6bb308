"""Well-formed resources to a world: every reference resolved, every contradiction found.

There is one way, whether all resources are new or one of a great many is: what changed is resolved, and what looks at it. All
else stands as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from serai.model import resources
from serai.model.buckets import Index
from serai.model.definitions import Complaints, Definition, Path
from serai.model.dependencies import looks_at
from serai.model.holders import SITE, Claim, Holders, Taking, claims_of
from serai.model.inventory import Host, Network, VirtualMachine
from serai.model.key import Key
from serai.model.placement import PlacementTerms
from serai.model.references import Scopes, Table
from serai.model.registered import Registry
from serai.model.resolve_invariant import resolve_invariant
from serai.model.resolve_inventory import check_overlaps, resolve_network, resolve_vm
from serai.model.resolve_peers import Peers
from serai.model.resolve_placement import carried, resolve_needs, resolve_placement_rule, resolve_pool
from serai.model.resolve_policy import resolve_policy
from serai.model.resolve_registered import resolve_image, resolve_registered
from serai.model.resolve_security import Allowances, check_security
from serai.model.resolve_site import check_tenant, last_word, quarantine, scopes_of
from serai.model.resources import Resource
from serai.model.standing import Changes, Standing
from serai.model.tenancy import ROOT, Mode, Scope
from serai.model.update import Update
from serai.model.world import World

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R", bound=Resource)


def unique(definitions: Iterable[Definition[Resource]], complaints: Complaints) -> dict[Key, Definition[Resource]]:
    """Return resources by name; complain where one is defined twice."""
    found: dict[Key, Definition[Resource]] = {}
    # First come, first served must mean the same whatever the order is that they come in.
    for definition in sorted(definitions, key=lambda d: (d.file, d.line)):
        first = found.setdefault(Key.of(definition.resource), definition)
        if first is not definition:
            path: Path = ("metadata", "name")
            complaints.about(definition, path, f"is defined already, at {first.place}")
    return found


def resolve(before: Standing, changes: Changes, complaints: Complaints) -> tuple[Standing, Update]:
    """Let some resources be otherwise, and return what stands then, and what is new in it.

    What is wrong goes to ``complaints``; the result is only whole when there are none.
    """
    return _Change(before, changes, complaints).outcome()


class _Change:
    """One change, and what has to be looked at again because of it."""

    def __init__(self, before: Standing, changes: Changes, complaints: Complaints) -> None:
        self._before, self._changes, self._complaints = before, changes, complaints
        self._definitions = _patched(before.definitions, changes)
        names = {*changes, *map(Key.of_scope, self._scopes_that_differ())}
        self._stirred = set(changes).union(*map(before.dependents.get, names))
        if self._mode_changes():
            self._stirred |= {key for key in before.definitions if key.kind == "VirtualMachine"}
        # What is in force already comes first, and so has what both it and something new lay claim to.
        present = [key for key in self._stirred if key in self._definitions]
        self._ordered = sorted(present, key=self._rank)

    def _scopes_that_differ(self) -> Iterator[Scope]:
        """Go through the scopes that Tenants declare now and did not before, or not in that mode, and the other way round."""
        for key, made in self._changes.items():
            if key.kind == "Tenant":
                both = (self._before.definitions.get(key), made)
                old, new = (set(scopes_of(each.resource).items()) if each else set() for each in both)
                yield from (scope for scope, _ in old ^ new)

    def _mode_changes(self) -> bool:
        """Say whether the site has another mode than before, and so may every VM."""
        sites = [made.resource for key, made in self._changes.items() if key.kind == "Site" and made]
        modes = [site.spec.mode for site in sites if isinstance(site, resources.Site)] or [None]
        return any(key.kind == "Site" for key in self._changes) and modes != [self._before.modes[ROOT]]

    def _rank(self, key: Key) -> tuple[bool, str, int, Key]:
        definition = self._definitions[key]
        return key in self._changes, definition.file, definition.line, key

    def _each(self, kind: type[R]) -> Iterator[tuple[Key, Definition[R]]]:
        """Go through what has to be resolved, of one kind."""
        for key in self._ordered:
            definition = self._definitions[key]
            if isinstance(definition.resource, kind):
                yield key, definition  # type: ignore[misc]  # its resource is what was asked for

    def outcome(self) -> tuple[Standing, Update]:
        before, complaints = self._before, self._complaints
        was = [key for key in self._stirred if key in before.definitions]
        taking = Taking(before.holders, self._released(was), self._definitions, complaints)
        site = self._site(taking)
        scopes = Scopes(self._modes(site), complaints)
        networks = self._networks(scopes, taking)
        hosts, _ = self._table(
            before.world.hosts,
            "Host",
            {
                key.path: Host(name=key.path, address=host.resource.spec.address)
                for key, host in self._each(resources.Host)
            },
        )
        services = self._services(scopes)
        host_table = Table("Host", {f"/:{name}": host for name, host in hosts.items()}, complaints)
        vms, new_vms = self._vms(scopes, networks, host_table, taking)
        placement = self._placement(scopes, host_table, taking)
        registry = self._registry()
        holders = before.holders.changed(changes := taking.changes())
        allowances = self._secured(vms, holders, changes, was)
        peers = Peers(
            scopes, Table("Service", services, complaints), Table("Network", networks, complaints), complaints
        )
        policies, new_policies = self._table(
            before.policies,
            "Policy",
            {
                key.path: resolve_policy(policy, scopes, peers, complaints)
                for key, policy in self._each(resources.Policy)
            },
        )
        invariants, new_invariants = self._table(
            before.invariants,
            "Invariant",
            {
                key.path: resolve_invariant(one, scopes, peers, complaints)
                for key, one in self._each(resources.Invariant)
            },
        )
        world = World(
            hosts=hosts,
            networks=networks,
            vms=vms,
            policies=tuple(sorted(policies.values(), key=lambda p: (p.scope, p.name)))
            if new_policies
            else before.world.policies,
            last_word=last_word(site),
            quarantine=quarantine(site),
            invariants=tuple(sorted(invariants.values(), key=lambda i: (i.scope, i.path)))
            if new_invariants
            else before.world.invariants,
            placement=placement,
            registry=registry,
        )
        standing = Standing(
            definitions=self._definitions, world=world, modes=scopes.modes, services=services, policies=policies,
            invariants=invariants, holders=holders, allowances=allowances, dependents=self._dependents(),
        )  # fmt: skip
        return standing, Update(
            policies=new_policies,
            vms=new_vms,
            last_word=None if world.last_word == before.world.last_word else world.last_word,
            quarantine=None if world.quarantine == before.world.quarantine else world.quarantine,
        )

    def _released(self, was: Iterable[Key]) -> Iterator[Claim]:
        """Go through what is held no more, or anew."""
        for key in was:
            vm = self._before.world.vms[key.path] if key.kind == "VirtualMachine" else None
            for claim, _ in claims_of(self._before.definitions[key], vm.vnics if vm else ()):
                yield claim

    def _site(self, taking: Taking) -> resources.Site | None:
        for key, site in self._each(resources.Site):
            taking.take(key, claims_of(site))
        holder = taking.holder(SITE)
        found = self._definitions[holder].resource if holder else None
        return found if isinstance(found, resources.Site) else None

    def _modes(self, site: resources.Site | None) -> Mapping[Scope, Mode | None]:
        if not any(key.kind in {"Site", "Tenant"} for key in self._changes):
            return self._before.modes
        modes = dict(self._before.modes)
        for key in self._changes:
            was = self._before.definitions.get(key)
            for scope in scopes_of(was.resource) if was else ():
                modes.pop(scope, None)
        for _, tenant in self._each(resources.Tenant):
            check_tenant(tenant, self._complaints)
            modes |= scopes_of(tenant.resource)
        modes[ROOT] = site.spec.mode if site else None
        return modes

    def _networks(self, scopes: Scopes, taking: Taking) -> Mapping[str, Network]:
        made: dict[str, Network] = {}
        for key, network in self._each(resources.Network):
            taking.take(key, claims_of(network))
            made[key.path] = resolve_network(network, scopes)
        networks, new = self._table(self._before.world.networks, "Network", made)
        domains = {network.routing_domain for network in new.values() if network}
        beside = [Key("Network", path) for path, network in networks.items() if network.routing_domain in domains]
        ordered = sorted(beside, key=self._rank)
        check_overlaps([(self._definitions[key], networks[key.path]) for key in ordered], self._complaints)
        return networks

    def _services(self, scopes: Scopes) -> Mapping[str, resources.Service]:
        made: dict[str, resources.Service] = {}
        for key, service in self._each(resources.Service):
            scopes.check(service, ("metadata", "scope"), service.resource.metadata.scope)
            made[key.path] = service.resource
        return self._table(self._before.services, "Service", made)[0]

    def _vms(
        self, scopes: Scopes, networks: Mapping[str, Network], hosts: Table[Host], taking: Taking
    ) -> tuple[Mapping[str, VirtualMachine], Mapping[str, VirtualMachine | None]]:
        network_table = Table("Network", networks, self._complaints)
        made: dict[str, VirtualMachine] = {}
        for key, vm in self._each(resources.VirtualMachine):
            made[key.path], vnics = resolve_vm(vm, scopes, network_table, hosts, self._complaints)
            taking.take(key, claims_of(vm, vnics))
        return self._table(self._before.world.vms, "VirtualMachine", made)

    def _placement(self, scopes: Scopes, hosts: Table[Host], taking: Taking) -> PlacementTerms:
        before = self._before.world.placement
        needs = {key.path: resolve_needs(vm.resource) for key, vm in self._each(resources.VirtualMachine)}
        on_hosts = {key.path: carried(host.resource.spec.tags) for key, host in self._each(resources.Host)}
        on_networks = {key.path: carried(net.resource.spec.tags) for key, net in self._each(resources.Network)}
        for key, pool in self._each(resources.Pool):
            taking.take(key, claims_of(pool))
        pools = {key.path: resolve_pool(pool, hosts) for key, pool in self._each(resources.Pool)}
        rules = {key.path: resolve_placement_rule(rule, scopes) for key, rule in self._each(resources.PlacementRule)}
        after = PlacementTerms(
            vms=self._table(before.vms, "VirtualMachine", {path: each for path, each in needs.items() if each})[0],
            hosts=self._table(before.hosts, "Host", {host: tags for host, tags in on_hosts.items() if tags})[0],
            networks=self._table(before.networks, "Network", {path: tags for path, tags in on_networks.items() if tags})[0],
            pools=self._table(before.pools, "Pool", pools)[0],
            rules=self._table(before.rules, "PlacementRule", rules)[0],
        )  # fmt: skip
        same = all(getattr(after, each.name) is getattr(before, each.name) for each in dataclasses.fields(before))
        return before if same else after

    def _registry(self) -> Registry:
        before = self._before.world.registry
        made = {key.path: resolve_image(image.resource) for key, image in self._each(resources.Image)}
        images, _ = self._table(before.images, "Image", made)
        table = Table("Image", {f"/:{name}": image for name, image in images.items()}, self._complaints)
        said = {key.path: resolve_registered(vm, table) for key, vm in self._each(resources.VirtualMachine)}
        vms, _ = self._table(before.vms, "VirtualMachine", {path: each for path, each in said.items() if each})
        same = images is before.images and vms is before.vms
        return before if same else Registry(images=images, vms=vms)

    def _secured(
        self,
        vms: Mapping[str, VirtualMachine],
        holders: Holders,
        changes: Mapping[Claim, Key | None],
        was: Iterable[Key],
    ) -> Allowances:
        """Check what VMs may use beside their own: theirs that are new, and others' that may cover what is held anew."""
        old = [(key, self._before.world.vms[key.path]) for key in was if key.kind == "VirtualMachine"]
        new = [(key, vms[key.path]) for key, _ in self._each(resources.VirtualMachine)]
        concerned = {key for key, vm in new if any(vnic.security.allowed for vnic in vm.vnics)}
        for claim, holder in changes.items():
            if holder is not None:
                concerned |= self._before.allowances.covering(claim)
        for key in sorted(concerned & self._definitions.keys(), key=self._rank):
            check_security(self._definitions[key], vms, holders, self._complaints)
        return self._before.allowances.changed(old, new)

    def _dependents(self) -> Index[Key, Key]:
        gone: list[tuple[Key, Key]] = []
        come: list[tuple[Key, Key]] = []
        for key, made in self._changes.items():
            was = self._before.definitions.get(key)
            before = looks_at(was.resource) if was else frozenset[Key]()
            after = looks_at(made.resource) if made else frozenset[Key]()
            gone += [(name, key) for name in before - after]
            come += [(name, key) for name in after - before]
        return self._before.dependents.changed(gone, come)

    def _table(
        self, old: Mapping[str, T], kind: str, made: Mapping[str, T]
    ) -> tuple[Mapping[str, T], Mapping[str, T | None]]:
        """Return a table in order of path with what was made of everything stirred of one kind, and what is otherwise in it."""
        differing: dict[str, T | None] = {path: thing for path, thing in made.items() if old.get(path) != thing}
        differing |= {
            key.path: None for key in self._stirred if key.kind == kind and key.path in old and key.path not in made
        }
        if not differing:
            return old, differing
        table = _patched(old, differing)
        if differing.keys() - old.keys():
            table = {path: table[path] for path in sorted(table)}
        return MappingProxyType(table), differing


def _patched(old: Mapping[K, T], changes: Mapping[K, T | None]) -> dict[K, T]:
    """Return a copy with some things otherwise; None: gone."""
    table = {**old}
    for key, thing in changes.items():
        if thing is None:
            table.pop(key, None)
        else:
            table[key] = thing
    return table
