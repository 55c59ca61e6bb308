"""Small data centers with tags, pools and placement rules in all combinations."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from hypothesis import strategies as st

from serai.model.inventory import Host, Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.placement import (
    Exclusive,
    KeepApart,
    Needs,
    PlacementRule,
    PlacementTerms,
    Pool,
    Profile,
)
from serai.model.policy import Expression, Group, Operator
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

HOSTS = ("a", "b", "c", "d")
TAGS = ("gold", "pci", "ssd")
# "/acme-x" and "/acme0" stand beside "/acme" wherever paths are sorted.
SCOPES = tuple(map(Scope, ("/acme", "/acme/shop", "/acme/lab", "/acme-x", "/acme0", "/globex")))
SOME_TAGS = st.frozensets(st.sampled_from(TAGS), max_size=2)
MANY_TAGS = st.one_of(SOME_TAGS, st.just(frozenset(TAGS)))
ROLES = st.sampled_from(({}, {"role": "db"}, {"role": "web"}))


def network(number: int) -> Network:
    subnets = (IPv4Network(f"10.0.{number}.0/24"),)
    return Network(name=f"n{number}", scope=Scope("/"), routing_domain="provider", subnets=subnets)


NETWORKS = {made.path: made for made in map(network, range(2))}


def vm(name: str, scope: Scope, labels: dict[str, str], networks: list[str]) -> VirtualMachine:
    vnics = tuple(
        Vnic(
            id=vnic_id(scope, name, f"eth{at}"), name=f"eth{at}", network=NETWORKS[path],
            mac=Mac("52:54:00:00:00:01"), addresses=(),
        )
        for at, path in enumerate(networks)
    )  # fmt: skip
    return VirtualMachine(name=name, scope=scope, labels=labels, mode=Mode.ENFORCE, vnics=vnics)


def rule(name: str, said: Any) -> PlacementRule:
    return Exclusive(name=name, tag=said) if isinstance(said, str) else KeepApart(name=name, group=said)


ROLE_IS_DB = frozenset({Expression(key="role", operator=Operator.IN, values=frozenset({"db"}))})
GROUPS = st.builds(Group, scope=st.sampled_from((*SCOPES, Scope("/acme"), Scope("/"), Scope("/"))), expressions=st.sampled_from((frozenset(), ROLE_IS_DB)))  # fmt: skip


@st.composite
def placed_worlds(draw: st.DrawFn) -> World:
    names = draw(
        st.lists(st.tuples(st.sampled_from(SCOPES), st.sampled_from("xyz")), unique=True, min_size=1, max_size=6)
    )
    vms = [
        vm(name, scope, draw(ROLES), draw(st.lists(st.sampled_from(sorted(NETWORKS)), min_size=1, max_size=3)))
        for scope, name in names
    ]
    said = draw(st.lists(st.one_of(st.sampled_from(TAGS), GROUPS), min_size=1, max_size=4))
    pooled = draw(st.lists(st.sampled_from((None, "west", "east")), min_size=len(HOSTS), max_size=len(HOSTS)))
    return World(
        hosts={name: Host(name=name) for name in HOSTS},
        networks=NETWORKS,
        vms={each.path: each for each in vms},
        placement=PlacementTerms(
            vms={each.path: Needs(tags=tags) for each in vms if (tags := draw(SOME_TAGS))},
            hosts={host: tags for host in HOSTS if (tags := draw(MANY_TAGS))},
            networks={path: tags for path in NETWORKS if (tags := draw(MANY_TAGS))},
            pools={
                pool: Pool(
                    name=pool, profile=Profile.STRICT,
                    hosts=frozenset(host for host, own in zip(HOSTS, pooled, strict=True) if own == pool),
                )
                for pool in ("west", "east")
            },
            rules={f"r{at}": rule(f"r{at}", each) for at, each in enumerate(said)},
        ),
    )  # fmt: skip


def places(world: World) -> st.SearchStrategy[dict[str, str]]:
    """Where some of its VMs are, one that it does not know among them, and on a host that it does not know."""
    host = st.sampled_from(("", "a", "a", "b", "c", "unknown"))
    placed = st.tuples(*(host for _ in world.vms)).map(lambda hosts: dict(zip(world.vms, hosts, strict=True)))
    return placed.map(lambda where: {"/nobody:knows": "a", **{vm: host for vm, host in where.items() if host}})
