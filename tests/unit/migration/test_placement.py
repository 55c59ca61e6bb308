"""What keeps VMs from hosts, against a slow and obvious opinion on random data centers."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from placed_worlds import HOSTS, NETWORKS, placed_worlds, places, vm
from serai.migration.obstacle import (
    ExclusiveHost,
    HostLacksTag,
    KeptApart,
    NetworkLacksTag,
    NoHost,
    Obstacle,
    OtherPool,
)
from serai.migration.placement import Placement, Violation
from serai.model.inventory import Host
from serai.model.placement import Exclusive, KeepApart, Needs, PlacementTerms, Pool, Profile
from serai.model.policy import Group
from serai.model.tenancy import Scope
from serai.model.world import World

Fact = tuple[str, ...]
"""What is in the way: a kind, and the names of what it is about."""

ALL = (*HOSTS, "unknown")


def fact(obstacle: Obstacle) -> Fact:
    match obstacle:
        case HostLacksTag():
            return "host", obstacle.host, obstacle.tag
        case NetworkLacksTag():
            return "network", obstacle.network, obstacle.tag
        case ExclusiveHost():
            return "exclusive", obstacle.host, obstacle.tag, obstacle.rule
        case KeptApart():
            return "apart", obstacle.host, obstacle.rule
        case OtherPool():
            return "pool", str(obstacle.own), str(obstacle.pool)
        case NoHost():
            return "nowhere", *obstacle.tags


# The slow opinion: each sentence of docs/PLACEMENT.md, asked of everything there is


def tags_of_vm(world: World, path: str) -> set[str]:
    needs = world.placement.vms.get(path)
    return set(needs.tags) if needs else set()


def tags_of_host(world: World, host: str) -> set[str]:
    return set(world.placement.hosts.get(host, ()))


def lacking_networks(world: World, path: str) -> Iterator[Fact]:
    for tag in tags_of_vm(world, path):
        for vnic in world.vms[path].vnics:
            if tag not in world.placement.networks.get(vnic.network.path, ()):
                yield "network", vnic.network.path, tag


def by_tags(world: World, path: str, host: str) -> Iterator[Fact]:
    own, carried = tags_of_vm(world, path), tags_of_host(world, host)
    for tag in own:
        if tag not in carried:
            yield "host", host, tag
    yield from lacking_networks(world, path)
    for rule in world.placement.rules.values():
        if isinstance(rule, Exclusive) and rule.tag in carried and rule.tag not in own:
            yield "exclusive", host, rule.tag, rule.name


def apart_from(world: World, path: str, others: Mapping[str, set[str]], host: str) -> Iterator[tuple[Fact, set[str]]]:
    for rule in world.placement.rules.values():
        if isinstance(rule, KeepApart):
            group = {vm.path for vm in world.vms.values() if rule.group.contains(vm.scope, vm.labels)}
            there = {other for other in group if other != path and host in others.get(other, set())}
            if path in group and there:
                yield ("apart", host, rule.name), there


def pool(world: World, host: str) -> str:
    return str(next((each.name for each in world.placement.pools.values() if host in each.hosts), None))


def blocked(world: World, path: str, host: str, running: Mapping[str, str], going: Mapping[str, str]) -> set[Fact]:
    found = set(by_tags(world, path, host))
    own = running.get(path)
    if own is not None and own != host and pool(world, own) != pool(world, host):
        found.add(("pool", pool(world, own), pool(world, host)))
    there = {other: {running.get(other, ""), going.get(other, "")} for other in world.vms}
    return found | {fact for fact, _ in apart_from(world, path, there, host)}


def may_take(world: World, path: str) -> set[str]:
    return {host for host in HOSTS if not set(by_tags(world, path, host))}


def violated(world: World, where: Mapping[str, str]) -> set[tuple[str, str | None, Fact]]:
    found: set[tuple[str, str | None, Fact]] = set()
    for path in world.vms:
        host = where.get(path)
        if host is not None:
            found |= {(path, host, each) for each in by_tags(world, path, host)}
            there = {other: {own} for other, own in where.items()}
            found |= {(path, host, each) for each, _ in apart_from(world, path, there, host)}
        else:
            found |= {(path, None, each) for each in lacking_networks(world, path)}
            tags = tags_of_vm(world, path)
            if tags and not any(
                tags <= tags_of_host(world, host) and not any(f[0] == "exclusive" for f in by_tags(world, path, host))
                for host in HOSTS
            ):
                found.add((path, None, ("nowhere", *sorted(tags))))
    return found


def compare(world: World, where: Mapping[str, str], going: Mapping[str, str]) -> collections.Counter[str]:
    """Ask both about everything; return how often each kind of obstacle came up."""
    placement, seen = Placement.of(world), collections.Counter[str]()
    for path in world.vms:
        for host in ALL:
            found = placement.blocks(path, host, where, going)
            facts = [fact(each) for each in found]
            assert len(facts) == len(set(facts))
            assert set(facts) == blocked(world, path, host, where, going)
            seen.update(each.kind for each in found)
            for each in found:
                assert host in str(each) or each.kind == "network-lacks-tag"
                if isinstance(each, KeptApart):
                    there = {other: {where.get(other, ""), going.get(other, "")} for other in world.vms}
                    told = dict(apart_from(world, path, there, host))["apart", host, each.rule]
                    assert (each.other, each.more) == (min(told), len(told) - 1)
        assert placement.hosts_for(path) == may_take(world, path)
    violations = placement.violations(where)
    assert [each.vm for each in violations] == sorted(each.vm for each in violations)
    told = [(each.vm, each.host, fact(each.obstacle)) for each in violations]
    assert len(told) == len(set(told))
    assert set(told) == violated(world, where)
    seen.update(f"violated {each.obstacle.kind}" for each in violations)
    for host in ALL:
        met = {vm.scope.tenant for vm in world.vms.values() if not set(by_tags(world, vm.path, host))}
        assert placement.tenants(host) == met
    for name, members in placement.groups.items():
        rule = world.placement.rules[name]
        assert isinstance(rule, KeepApart)
        group = [vm.path for vm in world.vms.values() if rule.group.contains(vm.scope, vm.labels)]
        assert list(members) == sorted(group)
    return seen


SITUATIONS = placed_worlds().flatmap(lambda world: st.tuples(st.just(world), places(world), places(world)))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SITUATIONS)
def test_two_opinions_about_who_may_run_where(situation: tuple[World, dict[str, str], dict[str, str]]) -> None:
    compare(*situation)


def test_everything_that_can_be_in_the_way_comes_up() -> None:
    seen: collections.Counter[str] = collections.Counter()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(SITUATIONS)
    def look(situation: tuple[World, dict[str, str], dict[str, str]]) -> None:
        seen.update(compare(*situation))

    look()
    placed = [HostLacksTag, NetworkLacksTag, ExclusiveHost, KeptApart]
    wanted = {*(each.kind for each in (*placed, OtherPool)), *(f"violated {each.kind}" for each in (*placed, NoHost))}
    assert {kind for kind in wanted if seen[kind] < 5} == set(), seen


# One by one

ACME, SHOP, GLOBEX = Scope("/acme"), Scope("/acme/shop"), Scope("/globex")
[PLAIN, MARKED] = sorted(NETWORKS)
WEB, DB, DB_2, CRM = (
    vm("web", SHOP, {}, [PLAIN]),
    vm("db", SHOP, {}, [PLAIN, MARKED]),
    vm("db-2", SHOP, {}, [MARKED]),
    vm("crm", GLOBEX, {}, [PLAIN]),
)
WORLD = World(
    hosts={name: Host(name=name) for name in ("alpha", "beta", "gamma")},
    networks=NETWORKS,
    vms={each.path: each for each in (WEB, DB, DB_2, CRM)},
    placement=PlacementTerms(
        vms={DB.path: Needs(tags=frozenset({"pci"})), DB_2.path: Needs(tags=frozenset({"pci"}))},
        hosts={"alpha": frozenset({"pci", "ssd"}), "beta": frozenset({"pci"})},
        networks={MARKED: frozenset({"pci"})},
        pools={"west": Pool(name="west", hosts=frozenset({"alpha", "gamma"}), profile=Profile.STRICT)},
        rules={
            "cards-alone": Exclusive(name="cards-alone", tag="pci"),
            "apart": KeepApart(name="apart", group=Group(scope=SHOP)),
        },
    ),
)

SENTENCES = {
    "a host without the tag": (DB_2, "gamma", {}, "host gamma does not carry the tag pci"),
    "a network without the tag": (DB, "alpha", {}, f"the network {PLAIN} of its vNIC eth0 does not carry the tag pci"),
    "an exclusive host": (CRM, "beta", {}, "host beta takes only VMs with the tag pci (PlacementRule cards-alone)"),
    "another of the group": (
        WEB, "gamma", {DB.path: "gamma"}, "host gamma has /acme/shop:db, to be kept apart from it (PlacementRule apart)",
    ),
    "two others of the group": (
        WEB, "gamma", {DB.path: "gamma", DB_2.path: "gamma"},
        "host gamma has /acme/shop:db and 1 more, to be kept apart from it (PlacementRule apart)",
    ),
    "a pool that it is not in": (
        DB_2, "beta", {DB_2.path: "alpha"}, "it runs in the pool west, and host beta is in no pool: VMs move within one",
    ),
    "a pool, from outside": (
        WEB, "gamma", {WEB.path: "beta"}, "it runs in no pool, and host gamma is in the pool west: VMs move within one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_every_refusal_names_what_is_in_the_way(name: str) -> None:
    machine, host, running, sentence = SENTENCES[name]
    assert [str(each) for each in Placement.of(WORLD).blocks(machine.path, host, running)] == [sentence]


def test_a_vm_that_goes_there_is_there() -> None:
    placement = Placement.of(WORLD)
    assert not placement.blocks(WEB.path, "gamma")
    [there] = placement.blocks(WEB.path, "gamma", {DB_2.path: "alpha"}, {DB_2.path: "gamma"})
    assert there == KeptApart(host="gamma", rule="apart", other=DB_2.path)


def test_vms_of_the_same_tags_share_one_set_of_hosts() -> None:
    placement = Placement.of(WORLD, ["delta"])
    assert placement.hosts_for(DB_2.path) == {"alpha", "beta"}
    assert placement.hosts_for(WEB.path) is placement.hosts_for(CRM.path)
    assert placement.hosts_for(WEB.path) == {"gamma", "delta"}
    assert placement.hosts_for(DB.path) == frozenset()
    with pytest.raises(KeyError):
        placement.hosts_for("/acme:nobody")


def test_what_is_wrong_already_is_listed() -> None:
    placement = Placement.of(WORLD)
    where = {DB.path: "gamma", DB_2.path: "gamma", CRM.path: "beta", "/acme:gone": "beta"}
    assert placement.violations(where) == [
        Violation(vm=DB.path, host="gamma", obstacle=HostLacksTag(host="gamma", tag="pci")),
        Violation(vm=DB.path, host="gamma", obstacle=KeptApart(host="gamma", rule="apart", other=DB_2.path)),
        Violation(vm=DB.path, host="gamma", obstacle=NetworkLacksTag(network=PLAIN, vnic="eth0", tag="pci")),
        Violation(vm=DB_2.path, host="gamma", obstacle=HostLacksTag(host="gamma", tag="pci")),
        Violation(vm=DB_2.path, host="gamma", obstacle=KeptApart(host="gamma", rule="apart", other=DB.path)),
        Violation(vm=CRM.path, host="beta", obstacle=ExclusiveHost(host="beta", tag="pci", rule="cards-alone")),
    ]
    assert [str(each.obstacle) for each in placement.violations({})] == [
        f"the network {PLAIN} of its vNIC eth0 does not carry the tag pci"
    ]
    terms = PlacementTerms(vms={DB_2.path: Needs(tags=frozenset({"pci"}))}, networks=WORLD.placement.networks)
    lost = World(hosts=WORLD.hosts, networks=NETWORKS, vms={DB_2.path: DB_2}, placement=terms)
    assert [str(each.obstacle) for each in Placement.of(lost).violations({})] == ["no host takes a VM with the tag pci"]


def test_hosts_meet_only_tenants_whose_vms_they_may_run() -> None:
    placement = Placement.of(WORLD)
    assert {host: sorted(placement.tenants(host)) for host in ("alpha", "beta", "gamma", "elsewhere")} == {
        "alpha": ["acme"], "beta": ["acme"], "gamma": ["acme", "globex"], "elsewhere": ["acme", "globex"],
    }  # fmt: skip
