"""Random worlds: a tenancy tree, a handful of VMs, and policies of every tier that overlap a lot."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import strategies as st
from policies import LABELS, TCP, UDP, Service, Vocabulary, policies

from serai.model.address import Address, in_order
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Action, Direction, Expression, Group, Operator, PortRange
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

SCOPES = tuple(map(Scope, ("/acme/shop", "/acme", "/", "/globex", "/globex/crm", "/acme/lab")))
HOMES = {
    tenant: tuple(scope for scope in SCOPES if scope.tenant == tenant)
    for tenant in ("acme", "globex")
}  # fmt: skip


def _network(scope: str, name: str, domain: str, *subnets: str) -> Network:
    return Network(
        name=name, scope=Scope(scope), routing_domain=domain, subnets=tuple(map(ip_network, subnets))
    )  # fmt: skip


NETWORKS = {
    n.path: n
    for n in (
        _network("/acme", "front", "acme", "10.0.0.0/24", "2001:db8:0:1::/64"),
        _network("/acme", "back", "acme", "10.0.1.0/24", "2001:db8:0:2::/64"),
        _network("/globex", "front", "globex", "10.0.0.0/24", "2001:db8:0:1::/64"),
        _network("/", "shared", "provider", "10.0.0.0/24", "2001:db8:0:1::/64"),
        _network("/acme", "joint", "provider", "10.0.1.0/24"),
    )
}
"""Three routing domains with the same addresses; VMs of both tenants are on the provider's."""
HOLDERS: dict[str, dict[int, tuple[Address, ...]]] = {
    "/acme:front": {
        2: (IPv4Address("10.0.0.2"), IPv6Address("2001:db8:0:1::2")),
        3: (IPv4Address("10.0.0.3"),),
        4: (IPv4Address("10.0.0.130"),),
    },
    "/acme:back": {
        2: (IPv4Address("10.0.1.2"), IPv4Address("10.0.1.22"), IPv6Address("fe80::2")),
        3: (IPv6Address("2001:db8:0:2::3"),),
    },
    "/globex:front": {
        2: (IPv4Address("10.0.0.2"), IPv6Address("2001:db8:0:1::2")),
        3: (IPv6Address("2001:db8:0:1::3"), IPv6Address("2001:db8:0:1::33"), IPv4Address("10.0.0.3")),
    },
    "/:shared": {
        2: (IPv4Address("10.0.0.3"), IPv6Address("2001:db8:0:1::3")),
        3: (IPv4Address("10.0.0.2"),),
        4: (IPv4Address("10.0.0.9"), IPv6Address("2001:db8:0:1::2")),
    },
    "/acme:joint": {2: (IPv4Address("10.0.1.2"),)},
}
"""Who holds what on each network: one version, both, several addresses, or an explicit link-local one."""
MACHINES = {
    "a1": ("acme", (("/acme:front", 2),), (("/:shared", 2),)),
    "a2": ("acme", (("/acme:front", 3),), ()),
    "a3": ("acme", (("/acme:back", 2),), (("/acme:front", 4), ("/acme:joint", 2))),
    "a4": ("acme", (("/acme:back", 3),), ()),
    "g1": ("globex", (("/globex:front", 2),), (("/:shared", 3),)),
    "g2": ("globex", (("/globex:front", 3),), ()),
    "g3": ("globex", (), (("/:shared", 4),)),
}
"""Tenant, vNICs, and vNICs that not every world has; a VM without any is left out."""


Card = tuple[str, int]
"""A network's path and a number there."""


def subsets(cards: tuple[Card, ...]) -> list[tuple[Card, ...]]:
    """Each choice of the cards, all of them last and as likely as all others together."""
    choices = [some for size in range(len(cards)) for some in itertools.combinations(cards, size)]
    return [*choices, *[cards] * max(1, len(choices))]


def mac_of(path: str, number: int) -> Mac:
    return Mac(f"52:54:00:00:{sorted(NETWORKS).index(path):02x}:{number:02x}")


PREFIXES = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/24", "0.0.0.0/0", "10.0.0.2/32", "10.0.0.2/31", "10.0.0.0/28", "10.0.0.128/25", "10.0.0.0/16",
            "10.0.0.0/8", "10.0.1.0/25", "8.0.0.0/7", "0.0.0.0/1", "203.0.113.0/24",
            "2001:db8:0:1::/64", "::/0", "2001:db8:0:1::2/128", "2001:db8:0:1::2/127", "2001:db8:0:1::/112",
            "2001:db8::/48", "2001:db8::/32", "2000::/3", "::/1", "::/80", "fe80::/10", "fe80::2/128",
        ),
    )
)  # fmt: skip


def _service(path: str, role: str | None, *ports: PortRange) -> Service:
    scope = Scope(path.partition(":")[0])
    expression = Expression(key="role", operator=Operator.IN, values=frozenset({role or ""}))
    return Service(path=path, ports=ports, group=Group(scope=scope, expressions=frozenset({expression})) if role else None)  # fmt: skip


SERVICES = (
    _service("/acme/shop:db", "a", PortRange(protocol=TCP, first=80, last=80)),
    _service("/acme:web", "b", PortRange(protocol=TCP, first=443, last=443), PortRange(protocol=UDP, first=443, last=443)),
    _service("/globex:all", "c", PortRange(protocol=TCP), PortRange(protocol=TCP, first=53, last=53)),
    _service("/:names", None, PortRange(protocol=UDP, first=53, last=53), PortRange(protocol=TCP, first=53, last=53)),
)  # fmt: skip
WORDS = Vocabulary(scopes=SCOPES, networks=tuple(NETWORKS), prefixes=PREFIXES, services=SERVICES)
_MODES = st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.ISOLATE, Mode.OBSERVE))
_SIZES = st.sampled_from((0, 2, 3, 4, 5, 6, 7, 8))
_LABELS = st.sampled_from(LABELS)
_QUARANTINES = st.sets(st.sampled_from(PREFIXES), max_size=2)
_NAMES = st.sampled_from("xyz")
_CARDS = {name: st.sampled_from(subsets(sometimes)) for name, (_, _, sometimes) in MACHINES.items()}


@st.composite
def machines(draw: st.DrawFn) -> dict[str, VirtualMachine]:
    """VMs by path; the same seven at most, each with the vNICs that it may have."""
    made = {}
    for name, (tenant, always, _) in MACHINES.items():
        cards = (*always, *draw(_CARDS[name]))
        if not cards:
            continue
        scope = draw(st.sampled_from(HOMES[tenant]))
        vnics = tuple(
            Vnic(
                id=vnic_id(scope, name, f"eth{at}"), name=f"eth{at}", network=NETWORKS[path],
                mac=mac_of(path, number), addresses=HOLDERS[path][number],
            )
            for at, (path, number) in enumerate(cards)
        )  # fmt: skip
        vm = VirtualMachine(
            name=name, scope=scope, labels=draw(_LABELS), mode=draw(_MODES),
            vnics=vnics, domain=name,
        )  # fmt: skip
        made[vm.path] = vm
    return made


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to seven VMs of two tenants with the same addresses, under up to eight policies; some in quarantine."""
    last_word = {direction: draw(st.sampled_from((Action.ACCEPT, Action.DENY))) for direction in Direction}
    several = [draw(policies(WORDS, name=f"{draw(_NAMES)}{number}")) for number in range(draw(_SIZES))]
    return World(
        networks=NETWORKS, vms=draw(machines()), policies=tuple(sorted(several, key=lambda p: (p.scope, p.name))),
        last_word=last_word,
        quarantine=tuple(sorted(draw(_QUARANTINES), key=in_order)),
    )  # fmt: skip
