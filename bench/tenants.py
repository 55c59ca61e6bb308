"""Tables of many tenants: one is compiled, the others are the same with other numbers.

Compiling 40,960 of them would measure the compiler. Numbers in tables are hashes of content (see
``serai.model.tenancy.content_id``): those of another tenant are other random numbers in the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serai.datapath.maps import comparable
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, vnic_id
from serai.model.policy import (
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    InCidr,
    Operator,
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.ruleset import HostRuleset, Records
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

SUBNET: Final = IPv4Network("10.0.0.0/24")
"""Of every tenant: what tells them apart is the view."""

OUTSIDE: Final = IPv4Network("198.51.100.0/24")
"""Addresses that no VM holds and that may ask servers too: each tenant has a prefix."""

VMS: Final = ("client", "server", "source", "sink")
"""The VMs of a tenant, in order of address from .1 on. Source and sink are a client and a server more."""

_ROLES: Final = {"client": "client", "server": "server", "source": "client", "sink": "server"}

PORTS: Final = (PortRange(protocol=6, first=5000, last=5999), PortRange(protocol=17, first=0, last=65535))
"""What clients may ask of servers; nothing else may reach either."""

_NUMBERS: Final = frozenset({"view", "identity", "ruleset", "list", "rule", "staged_rule"})
"""Fields of the tables that hold 64-bit numbers, whichever way they are laid out."""


def world(tenants: Iterable[int]) -> World:
    """The VMs of some tenants, by number, and the policies that let their pairs talk."""
    vms: dict[str, VirtualMachine] = {}
    policies: list[Policy] = []
    for tenant in tenants:
        scope = Scope(f"/t{tenant}/shop")
        network = Network(name="front", scope=Scope(f"/t{tenant}"), routing_domain=f"t{tenant}", subnets=(SUBNET,))
        for at, name in enumerate(VMS, start=1):
            vm = _machine(scope, network, name, at, tenant)
            vms[vm.path] = vm
        policies += [
            _policy(scope, "client", Direction.EGRESS, [_role(scope, "server")]),
            _policy(scope, "server", Direction.INGRESS, [_role(scope, "client"), InCidr(prefix=OUTSIDE)]),
        ]
    return World(vms=vms, policies=tuple(policies))


def compiled(tenants: int) -> HostRuleset:
    """The tables of so many tenants; the vNICs are those of the first."""
    first = world([0])
    return multiply(compile_host(first, "bench", first.vms), tenants)


def multiply(ruleset: HostRuleset, tenants: int) -> HostRuleset:
    """Return ``ruleset``, of one tenant, with the tables of ``tenants`` tenants, the first of which it is.

    Its vNICs stay the only ones, and its rules the only ones that have a text.
    """
    tables = {name: _multiply(records, masks(tenants)) for name, records in ruleset.tables.items()}
    return HostRuleset.whole(host=ruleset.host, vnics=ruleset.vnics, rules=ruleset.rules, tables=tables)


def masks(tenants: int) -> NDArray[np.uint64]:
    """What each tenant's numbers differ in: two tenants' numbers meet as seldom as two hashes do. 0 for the first."""
    found = np.random.default_rng(seed=1).integers(1, 2**64 - 1, tenants, np.uint64)
    found[0] = 0
    return found


def renumber(records: Records, mask: NDArray[np.uint64]) -> None:
    """Change the numbers in each of ``records`` by its ``mask``, in place; 0, which names nothing, stays 0."""
    for field in _number_fields(records):
        numbers = np.array(field).view("<u8")  # also where a number is kept as two halves
        numbers ^= np.where(numbers == 0, np.uint64(0), mask.reshape(-1, *[1] * (numbers.ndim - 1)))
        field[...] = numbers.view(field.dtype)


def _multiply(records: Records, mask: NDArray[np.uint64]) -> Records:
    copies = np.tile(records, len(mask)).copy()  # tile hands an empty table itself back
    renumber(copies, np.repeat(mask, len(records)))
    return np.sort(comparable(copies)).view(records.dtype)


def _number_fields(records: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for name, (kind, *_) in (records.dtype.fields or {}).items():
        if name in _NUMBERS:
            yield records[name]
        elif kind.base.fields:
            yield from _number_fields(records[name])


def _machine(scope: Scope, network: Network, name: str, at: int, tenant: int) -> VirtualMachine:
    vnic = Vnic(
        id=vnic_id(scope, name, "eth0"), name="eth0", network=network,
        mac=Mac(f"52:54:{tenant >> 16:02x}:{tenant >> 8 & 255:02x}:{tenant & 255:02x}:{at:02x}"),
        addresses=(SUBNET[at],),
    )  # fmt: skip
    return VirtualMachine(name=name, scope=scope, labels={"role": _ROLES[name]}, mode=Mode.ENFORCE, vnics=(vnic,))


def _policy(scope: Scope, subject: str, direction: Direction, peers: Iterable[Peer]) -> Policy:
    rule = Rule(
        ref=RuleRef.of(scope, subject, direction, "talk"),
        action=Action.ACCEPT,
        clauses=tuple(Clause(peer=peer, ports=PORTS) for peer in peers),
    )
    return Policy(
        name=subject, scope=scope, tier=Tier.TENANT, priority=500, staged=False,
        subject=_role(scope, subject), rules={direction: (rule,)},
    )  # fmt: skip


def _role(scope: Scope, role: str) -> Group:
    wanted = Expression(key="role", operator=Operator.IN, values=frozenset({role}))
    return Group(scope=scope, expressions=frozenset({wanted}))
