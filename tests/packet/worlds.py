"""Random worlds: a tenancy tree, a handful of VMs, and policies of every tier that overlap a lot."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

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
PROTOCOLS = (1, 6, 17, 47)
PORTS = (0, 22, 23, 53, 80, 443, 1023, 1024, 2048, 8080, 65535)
KEYS, VALUES = ("role", "env"), ("a", "b", "c")


def _network(tenant: str, name: str, subnet: str) -> Network:
    return Network(name=name, scope=Scope(f"/{tenant}"), routing_domain=tenant, subnets=(IPv4Network(subnet),))


NETWORKS = {
    n.path: n
    for n in (
        _network("acme", "front", "10.0.0.0/24"),
        _network("acme", "back", "10.0.1.0/24"),
        _network("globex", "front", "10.0.0.0/24"),
    )
}
REMOTES = tuple(map(IPv4Address, ("10.0.0.2", "10.0.0.3", "10.0.1.2", "10.0.1.3", "10.0.0.200", "8.8.8.8")))

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


cidrs = st.sampled_from(("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.2/32", "10.0.1.0/25", "8.0.0.0/7"))
peers = st.one_of(
    groups(st.sampled_from(SCOPES)),
    st.builds(OnNetwork, path=st.sampled_from(sorted(NETWORKS))),
    st.builds(InCidr, prefix=cidrs.map(IPv4Network)),
)


@st.composite
def port_ranges(draw: st.DrawFn) -> PortRange:
    protocol = draw(st.sampled_from((*PROTOCOLS, ANY_PROTOCOL)))
    if protocol in (6, 17, 1):
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
        for host in (2, 3):
            scope = draw(st.sampled_from([s for s in HOMES if s.tenant == tenant]))
            address = network.subnets[0][host]
            name = f"vm-{path.removeprefix('/').replace(':', '-')}-{host}"
            vnic = Vnic(
                id=vnic_id(scope, name, "eth0"), name="eth0", network=network,
                mac=Mac("52:54:" + ":".join(f"{b:02x}" for b in address.packed)), addresses=(address,),
            )  # fmt: skip
            vm = VirtualMachine(name=name, scope=scope, labels=draw(labels), mode=Mode.ENFORCE, vnics=(vnic,))
            made[vm.path] = vm
    return made


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world of six VMs in two tenants that use the same addresses, under up to six policies."""
    numbers = range(draw(st.integers(0, 6)))
    last_word = {direction: draw(st.sampled_from((Action.ACCEPT, Action.DENY))) for direction in Direction}
    return World(
        networks=NETWORKS, vms=draw(machines()), policies=tuple(draw(policies(number)) for number in numbers),
        last_word=last_word,
    )  # fmt: skip
