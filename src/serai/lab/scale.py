"""A data center on paper: as many hosts, VMs, vNICs and tenants as you like, the same ones for the same seed.

Every tenant has a network with the same addresses, web, app, db and management VMs spread over all hosts, and four policies with
eight rules of its own; the provider has four rules for everybody.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Final

import numpy as np

from serai.model.address import MAPPED, Prefix
from serai.model.columns import MODES, Columns
from serai.model.inventory import ORDINARY, Network, vnic_id
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
from serai.model.ports import ICMP, TCP, UDP
from serai.model.tenancy import ROOT, Mode, Scope

ROLES: Final = ("web", "app", "db", "mgmt")
"""Of a tenant's VMs, in turn."""
SUBNET: Final = IPv4Network("10.0.0.0/16")
"""Of every tenant: routing domains keep them apart."""
BAD: Final = tuple(IPv4Network(f"198.18.{at}.0/24") for at in range(64))
"""Nobody may talk to these."""
INFRASTRUCTURE: Final = tuple(IPv4Network(f"172.31.0.{at}/32") for at in range(10, 18))
"""Name servers and monitoring, for everybody."""

_FIRST_ADDRESS: Final = 10
_MOST_VNICS_OF_A_TENANT: Final = SUBNET.num_addresses - 2 * _FIRST_ADDRESS


class ScaleError(ValueError):
    """There can be no such data center; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a data center is."""

    hosts: int
    vms: int
    """On each host."""
    vnics: int
    """Of each VM."""
    tenants: int
    seed: int = 1
    shapes: bool = False
    """Every tenant's policies differ in more than names and addresses."""

    def __post_init__(self) -> None:
        """Check that it can be."""
        if min(self.hosts, self.vms, self.vnics, self.tenants) < 1:
            raise ScaleError("hosts, VMs, vNICs and tenants are at least one each")
        if self.seed < 0:
            raise ScaleError(f"{self.seed} is no seed: take a number from 0 on")
        if self.tenants > self.hosts * self.vms:
            raise ScaleError(
                f"{self.tenants} tenants cannot share {self.hosts * self.vms} VMs: each needs one at least"
            )
        if (self.hosts * self.vms // self.tenants + 1) * self.vnics > _MOST_VNICS_OF_A_TENANT:
            raise ScaleError(f"a tenant's vNICs do not fit into {SUBNET}: take more tenants, or fewer VMs or vNICs")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataCenter:
    """What is compiled."""

    columns: Columns
    policies: Sequence[Policy]
    places: Mapping[str, str]
    """The host of each VM, by its path."""


def build(scale: Scale) -> DataCenter:
    """Build a data center in memory."""
    return DataCenter(
        columns=_columns(scale),
        policies=[
            *provider_policies(),
            *(p for tenant in range(scale.tenants) for p in tenant_policies(tenant, scale)),
        ],
        places=_places(scale),
    )


def tenant_scope(tenant: int) -> Scope:
    """Return the scope of a tenant, by its number."""
    return Scope(f"/t{tenant}")


def corporate(tenant: int) -> tuple[Prefix, ...]:
    """Return where the users of a tenant sit."""
    return IPv4Network(f"172.{16 + (tenant >> 8) % 8}.{tenant & 255}.0/24"), IPv4Network(f"192.168.{tenant & 255}.0/24")


def _vms(scale: Scale) -> Iterator[tuple[int, int]]:
    """Go through all VMs: tenant, and which of its VMs."""
    for number in range(scale.hosts * scale.vms):
        yield number % scale.tenants, number // scale.tenants


def vm_path(tenant: int, vm: int) -> str:
    """Return the path of a tenant's VM."""
    return f"/t{tenant}:vm{vm}"


def _places(scale: Scale) -> dict[str, str]:
    slots = np.random.default_rng(scale.seed).permutation(scale.hosts * scale.vms) // scale.vms
    hosts = [host_name(host) for host in range(scale.hosts)]
    return {vm_path(*vm): hosts[slot] for vm, slot in zip(_vms(scale), slots.tolist(), strict=True)}


def host_name(host: int) -> str:
    """Return the name of a host, by its number."""
    return f"host-{host}"


def _columns(scale: Scale) -> Columns:
    count = scale.hosts * scale.vms
    tenant, vm = np.divmod(np.arange(count), scale.tenants)[::-1]
    every = np.arange(count * scale.vnics)
    position = np.repeat(vm * scale.vnics, scale.vnics) + every % scale.vnics
    addresses = np.tile(np.frombuffer(MAPPED.network_address.packed, np.uint8), (len(every), 1))
    numbers = (int(SUBNET.network_address) + _FIRST_ADDRESS + position).astype(">u4")
    addresses[:, 12:] = numbers.view(np.uint8).reshape(-1, 4)
    macs = every.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:].copy()
    macs[:, 0] |= 2  # locally administered
    scopes = [tenant_scope(at) for at in range(scale.tenants)]
    names = [f"eth{at}" for at in range(scale.vnics)]
    ids = (vnic_id(scopes[t], f"vm{v}", name) for t, v in _vms(scale) for name in names)
    return Columns(
        scopes=scopes,
        labels=[{"role": role} for role in ROLES],
        networks=[
            Network(name="front", scope=scope, routing_domain=scope.parts[0], subnets=(SUBNET,)) for scope in scopes
        ],
        cards=[tuple((name, ORDINARY) for name in names)],
        paths=[vm_path(t, v) for t, v in _vms(scale)],
        vm_scope=tenant,
        vm_labels=vm % len(ROLES),
        vm_mode=np.full(count, MODES.index(Mode.ENFORCE)),
        vm_cards=np.zeros(count, np.int64),
        vm_vnics=np.arange(count + 1) * scale.vnics,
        ids=np.fromiter(ids, np.uint64, len(every)),
        macs=macs,
        vnic_network=np.repeat(tenant, scale.vnics),
        vnic_addresses=np.arange(len(every) + 1),
        addresses=addresses,
    )


def provider_policies() -> list[Policy]:
    """Return the provider's policy, with a rule for everybody in each direction and to each end."""
    bad = [InCidr(prefix=prefix) for prefix in BAD]
    infrastructure = [InCidr(prefix=prefix) for prefix in INFRASTRUCTURE]
    rules = {
        Direction.INGRESS: [
            ("nothing-from-bad", Action.DENY, bad, ()),
            ("monitoring", Action.ACCEPT, infrastructure, (_port(TCP, 9100),)),
        ],
        Direction.EGRESS: [
            ("nothing-to-bad", Action.DENY, bad, ()),
            ("names", Action.ACCEPT, infrastructure, (_port(UDP, 53),)),
        ],
    }
    return [_policy(ROOT, "ground-rules", Tier.ADMIN, Group(scope=ROOT), rules)]


def tenant_policies(tenant: int, scale: Scale) -> list[Policy]:
    """Return the policies of one tenant: eight rules, and by the Tenant tier's last word a default denial both ways."""
    scope = tenant_scope(tenant)
    everybody = Group(scope=scope)
    web, app, db, mgmt = (_role(scope, role) for role in ROLES)
    users: list[Peer] = [InCidr(prefix=prefix) for prefix in corporate(tenant)]
    port = _different(tenant, scale) if scale.shapes else _usual
    ingress, egress = Direction.INGRESS, Direction.EGRESS
    accept = Action.ACCEPT
    return [
        _policy(
            scope, "all", Tier.TENANT, everybody,
            {
                ingress: [
                    ("ping", accept, [everybody], (PortRange(protocol=ICMP),)),
                    ("ssh", accept, [mgmt], port(22)),
                ],
                egress: [("inside", accept, [everybody], ())],
            },
        ),
        _policy(
            scope, "web", Tier.TENANT, web,
            {ingress: [("from-users", accept, users, (*port(80), _port(TCP, 443)))]},
        ),
        _policy(
            scope, "app", Tier.TENANT, app,
            {
                ingress: [("from-web", accept, [web], port(8080))],
                egress: [("to-users", accept, users, port(443))],
            },
        ),
        _policy(
            scope, "db", Tier.TENANT, db,
            {
                ingress: [
                    ("from-app", accept, [app], port(5432)),
                    ("among-themselves", accept, [db], port(5433)),
                ],
            },
        ),
    ]  # fmt: skip


def _different(tenant: int, scale: Scale) -> Callable[[int], tuple[PortRange, ...]]:
    """Let a tenant have ports of its own beside the usual ones."""
    choice = random.Random(f"{scale.seed} {tenant}")  # noqa: S311 (the same every time, on purpose)

    def own() -> PortRange:
        first = choice.randrange(1024, 60000)
        return PortRange(protocol=choice.choice((TCP, UDP)), first=first, last=first + choice.randrange(100))

    def ports(usual: int) -> tuple[PortRange, ...]:
        return (_port(TCP, usual), *(own() for _ in range(choice.randint(1, 3))))

    return ports


def _usual(port: int) -> tuple[PortRange, ...]:
    return (_port(TCP, port),)


def _port(protocol: int, port: int) -> PortRange:
    return PortRange(protocol=protocol, first=port, last=port)


def _role(scope: Scope, role: str) -> Group:
    wanted = Expression(key="role", operator=Operator.IN, values=frozenset({role}))
    return Group(scope=scope, expressions=frozenset({wanted}))


_Rules = Mapping[Direction, Sequence[tuple[str, Action, Sequence[Peer], tuple[PortRange, ...]]]]


def _policy(scope: Scope, name: str, tier: Tier, subject: Group, rules: _Rules) -> Policy:
    return Policy(
        name=name, scope=scope, tier=tier, priority=500, staged=False, subject=subject,
        rules={
            direction: tuple(
                Rule(
                    ref=RuleRef.of(scope, name, direction, rule),
                    action=action,
                    clauses=tuple(Clause(peer=peer, ports=ports) for peer in peers),
                )
                for rule, action, peers, ports in side
            )
            for direction, side in rules.items()
        },
    )  # fmt: skip
