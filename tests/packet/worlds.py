"""Random worlds: a tenancy tree, a handful of VMs, and policies of every tier that overlap a lot."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import strategies as st

from serai.model.address import Address, in_order, link_local
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import (
    ANY_PROTOCOL,
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    InCidr,
    OnNetwork,
    Operator,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

SCOPES = tuple(map(Scope, ("/", "/acme", "/acme/shop", "/acme/lab", "/globex", "/globex/crm")))
HOMES = tuple(s for s in SCOPES if len(s.parts) == 2)
ICMP, TCP, UDP, ESP, ICMPV6, SCTP = 1, 6, 17, 50, 58, 132
PROTOCOLS = (ICMP, TCP, UDP, ESP, ICMPV6, SCTP)
WITH_PORTS = (TCP, UDP, SCTP)
PORTS = (0, 22, 23, 53, 80, 443, 1023, 1024, 2048, 8080, 32768, 65535)
"""Among them the echo requests of both versions, type * 256."""
KEYS, VALUES = ("role", "env"), ("a", "b", "c")


def _network(tenant: str, name: str, *subnets: str) -> Network:
    return Network(
        name=name, scope=Scope(f"/{tenant}"), routing_domain=tenant, subnets=tuple(map(ip_network, subnets))
    )  # fmt: skip


NETWORKS = {
    n.path: n
    for n in (
        _network("acme", "front", "10.0.0.0/24", "2001:db8:0:1::/64"),
        _network("acme", "back", "10.0.1.0/24", "2001:db8:0:2::/64"),
        _network("globex", "front", "10.0.0.0/24", "2001:db8:0:1::/64"),
    )
}
HOLDERS: dict[str, dict[int, tuple[Address, ...]]] = {
    "/acme:front": {
        2: (IPv4Address("10.0.0.2"), IPv6Address("2001:db8:0:1::2")),
        3: (IPv4Address("10.0.0.3"),),
    },
    "/acme:back": {
        2: (IPv4Address("10.0.1.2"), IPv4Address("10.0.1.22"), IPv6Address("fe80::2")),
        3: (IPv6Address("2001:db8:0:2::3"),),
    },
    "/globex:front": {
        2: (IPv4Address("10.0.0.2"), IPv6Address("2001:db8:0:1::2")),
        3: (IPv6Address("2001:db8:0:1::3"), IPv6Address("2001:db8:0:1::33"), IPv4Address("10.0.0.3")),
    },
}
"""Who holds what on each network: one version, both, several addresses, or an explicit link-local one."""


def mac_of(path: str, number: int) -> Mac:
    return Mac(f"52:54:00:00:{sorted(NETWORKS).index(path):02x}:{number:02x}")


REMOTES: tuple[Address, ...] = tuple(
    map(
        ip_address,
        (
            "10.0.0.2", "10.0.0.3", "10.0.1.2", "10.0.1.22", "10.0.0.200", "8.8.8.8", "0.0.0.1",
            "2001:db8:0:1::2", "2001:db8:0:2::3", "2001:db8:0:1::33", "2001:db8:0:1::99", "2001:db8:ffff::1", "2a00::8",
            "::1:2", "fe80::2", "fe80::99", str(link_local(mac_of("/acme:front", 2).packed)),
        ),
    )
)  # fmt: skip

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
some_values = st.frozensets(st.sampled_from(VALUES), min_size=1, max_size=2)
expressions = st.one_of(
    st.builds(
        Expression,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from((Operator.IN, Operator.NOT_IN)),
        values=some_values,
    ),
    st.builds(
        Expression, key=st.sampled_from(KEYS), operator=st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST))
    ),
)


def groups(scopes: st.SearchStrategy[Scope]) -> st.SearchStrategy[Group]:
    return st.builds(Group, scope=scopes, expressions=st.frozensets(expressions, max_size=2))


prefixes = st.sampled_from(
    (
        "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.2/32", "10.0.1.0/25", "8.0.0.0/7",
        "::/0", "::/1", "::/80", "2000::/3", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8:0:1::2/128", "fe80::/10",
        "fe80::2/128",
    )
).map(ip_network)  # fmt: skip
peers = st.one_of(
    groups(st.sampled_from(SCOPES)),
    st.builds(OnNetwork, path=st.sampled_from(sorted(NETWORKS))),
    st.builds(InCidr, prefix=prefixes),
)


@st.composite
def port_ranges(draw: st.DrawFn) -> PortRange:
    protocol = draw(st.sampled_from((*PROTOCOLS, ANY_PROTOCOL)))
    if protocol in (*WITH_PORTS, ICMP, ICMPV6):
        first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
        return PortRange(protocol=protocol, first=first, last=last)
    return PortRange(protocol=protocol)


clauses = st.builds(Clause, peer=st.none() | peers, ports=st.lists(port_ranges(), max_size=3).map(tuple))


@st.composite
def policies(draw: st.DrawFn, number: int) -> Policy:
    scope, tier = draw(st.sampled_from(SCOPES)), draw(st.sampled_from(tuple(Tier)))
    below = [s for s in SCOPES if scope.contains(s)]
    actions = (Action.ACCEPT, Action.DENY, *([Action.PASS] * 2 if tier is Tier.ADMIN else []))
    name = f"{draw(st.sampled_from('xyz'))}{number}"
    directions = draw(st.sets(st.sampled_from(tuple(Direction)), min_size=1))
    rules = {
        direction: tuple(
            Rule(
                ref=RuleRef.of(scope, name, direction, f"r{at}"),
                action=draw(st.sampled_from(actions)),
                clauses=tuple(draw(st.lists(clauses, min_size=1, max_size=2))),
            )
            for at in range(draw(st.integers(0, 3)))
        )
        for direction in sorted(directions)
    }
    return Policy(
        name=name, scope=scope, tier=tier, priority=draw(st.sampled_from((0, 500, 1000))),
        staged=draw(st.booleans()) and draw(st.booleans()), subject=draw(groups(st.sampled_from(below))), rules=rules,
    )  # fmt: skip


@st.composite
def machines(draw: st.DrawFn) -> dict[str, VirtualMachine]:
    made = {}
    for path, network in NETWORKS.items():
        tenant = network.routing_domain
        for host, addresses in HOLDERS[path].items():
            scope = draw(st.sampled_from([s for s in HOMES if s.tenant == tenant]))
            name = f"vm-{path.removeprefix('/').replace(':', '-')}-{host}"
            vnic = Vnic(
                id=vnic_id(scope, name, "eth0"), name="eth0", network=network,
                mac=mac_of(path, host), addresses=addresses,
            )  # fmt: skip
            mode = draw(st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.ISOLATE)))
            vm = VirtualMachine(name=name, scope=scope, labels=draw(labels), mode=mode, vnics=(vnic,))
            made[vm.path] = vm
    return made


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world of six VMs in two tenants that use the same addresses, under up to six policies; some in quarantine."""
    numbers = range(draw(st.integers(0, 6)))
    last_word = {direction: draw(st.sampled_from((Action.ACCEPT, Action.DENY))) for direction in Direction}
    return World(
        networks=NETWORKS, vms=draw(machines()), policies=tuple(draw(policies(number)) for number in numbers),
        last_word=last_word, quarantine=tuple(sorted(draw(st.sets(prefixes, max_size=2)), key=in_order)),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """May this connection be opened, as far as this VM's only vNIC has a say?"""

    vm: VirtualMachine
    direction: Direction
    remote: Address
    protocol: int
    port: int

    @property
    def asked(self) -> tuple[Direction, Address, int, int]:
        """As flow rows have it."""
        return self.direction, self.remote, self.protocol, self.port


def questions(world: World) -> list[Question]:
    """Every question that makes sense as a packet, and ICMP of one version asked about the other."""
    echo = {ICMP: (8 << 8,), ICMPV6: (128 << 8,)}
    return [
        Question(vm, direction, remote, protocol, port)
        for vm in world.vms.values()
        for direction in Direction
        for remote in REMOTES
        if remote not in vm.vnics[0].held
        for protocol in PROTOCOLS
        for port in (PORTS if protocol in WITH_PORTS else echo.get(protocol, (0,)))
    ]
