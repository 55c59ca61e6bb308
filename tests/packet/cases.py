"""Rows for tables of packets: who talks, under which policies, what is sent, and what must become of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from conftest import NETWORK, PLAIN, GateUnderTest, Stage, machine
from frames import (
    ESP,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    SCTP,
    TCP,
    UDP,
    behind,
    ethernet,
    ipv4,
    ipv6,
)

from serai.model.address import Prefix
from serai.model.inventory import PortSecurity
from serai.model.policy import (
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    Operator,
    Peer,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.reasons import Reason
from serai.model.tenancy import Mode, Scope
from serai.model.world import World

OUT, IN = Direction.EGRESS, Direction.INGRESS
ACCEPT, DENY = Action.ACCEPT, Action.DENY
SCOPE, PATH = Scope("/acme/shop"), "/acme/shop:vm"
MAC, PEER_MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
VM, PEER, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.77"
VM6, PEER6, STRANGER6 = "2001:db8::1", "2001:db8::2", "2001:db8::77"
LINK6, PEER_LINK6 = "fe80::5054:ff:fe00:1", "fe80::5054:ff:fe00:2"
UNSPECIFIED6, ALL_NODES, ALL_ROUTERS = "::", "ff02::1", "ff02::2"


@dataclasses.dataclass(frozen=True)
class Family:
    """Frames of one IP version between the VM and its peer."""

    name: str
    vm: str
    peer: str
    stranger: str
    icmp: int
    echo: int
    reply: int

    def packet(self, source: str, target: str, protocol: int, payload: bytes, **header: Any) -> bytes:
        """The packet alone; ``headers`` are IPv6 extension headers to stand in front of the payload."""
        if self is V4:
            return ipv4(source, target, protocol, payload, **header)
        return ipv6(source, target, *behind(header.pop("headers", ()), protocol, payload), **header)

    def frame(self, packet: bytes, *, source: str, target: str) -> bytes:
        return ethernet(source, target, IPV4 if self is V4 else IPV6, packet)

    def out(self, protocol: int, payload: bytes, **header: Any) -> bytes:
        """A frame from the VM; ``mac``, ``to`` (MACs), ``source``, ``target`` and the header's fields may be given."""
        macs = {"source": header.pop("mac", MAC), "target": header.pop("to", PEER_MAC)}
        ends = header.pop("source", self.vm), header.pop("target", self.peer)
        return self.frame(self.packet(*ends, protocol, payload, **header), **macs)

    def into(self, protocol: int, payload: bytes, **header: Any) -> bytes:
        """A frame to the VM."""
        macs = {"source": header.pop("mac", PEER_MAC), "target": header.pop("to", MAC)}
        ends = header.pop("source", self.peer), header.pop("target", self.vm)
        return self.frame(self.packet(*ends, protocol, payload, **header), **macs)

    def __str__(self) -> str:
        return self.name


V4 = Family("IPv4", VM, PEER, STRANGER, ICMP, 8, 0)
V6 = Family("IPv6", VM6, PEER6, STRANGER6, ICMPV6, 128, 129)
FAMILIES = (V4, V6)


def role(name: str) -> Group:
    wanted = Expression(key="role", operator=Operator.IN, values=frozenset({name}))
    return Group(scope=SCOPE, expressions=frozenset({wanted}))


def port(protocol: int, first: int, last: int | None = None) -> PortRange:
    return PortRange(protocol=protocol, first=first, last=first if last is None else last)


def policy(name: str, direction: Direction, *rules: tuple[Action, Peer | None, tuple[PortRange, ...]], priority: int = 500) -> Policy:  # fmt: skip
    """A Tenant policy for the VM: action, peer (None: anybody), ports (none: all)."""
    made = tuple(
        Rule(ref=RuleRef.of(SCOPE, name, direction, f"r{at}"), action=action, clauses=(Clause(peer=peer, ports=ports),))
        for at, (action, peer, ports) in enumerate(rules)
    )
    return Policy(
        name=name, scope=SCOPE, tier=Tier.TENANT, priority=priority, staged=False, subject=role("vm"),
        rules={direction: made},
    )  # fmt: skip


OUT_PORTS = (
    port(TCP, 443, 500), port(UDP, 53), port(SCTP, 5000), PortRange(protocol=ICMP), PortRange(protocol=ICMPV6),
    PortRange(protocol=ESP),
)  # fmt: skip
IN_PORTS = (port(TCP, 22), port(UDP, 5000, 5010), port(SCTP, 5000))
STANDARD = (policy("out", OUT, (ACCEPT, role("peer"), OUT_PORTS)), policy("in", IN, (ACCEPT, role("peer"), IN_PORTS)))
OPEN = (policy("out", OUT, (ACCEPT, None, ())), policy("in", IN, (ACCEPT, None, ())))
CLOSED = (policy("out", OUT), policy("in", IN))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """Whom the gate guards, and by what."""

    policies: tuple[Policy, ...] = STANDARD
    addresses: tuple[str, ...] = (VM, VM6)
    security: PortSecurity = PLAIN
    mode: Mode = Mode.ENFORCE
    quarantine: tuple[Prefix, ...] = ()

    def world(self) -> World:
        vm = machine("vm", *self.addresses, role="vm", mode=self.mode, security=self.security)
        vms = (vm, machine("peer", PEER, PEER6, role="peer"))
        return World(
            networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms}, policies=self.policies,
            quarantine=self.quarantine,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Step:
    direction: Direction
    frame: bytes
    reason: Reason


def sent(frame: bytes, reason: Reason = Reason.NONE) -> Step:
    """From the VM, and what it must be dropped for."""
    return Step(OUT, frame, reason)


def came(frame: bytes, reason: Reason = Reason.NONE) -> Step:
    """To the VM."""
    return Step(IN, frame, reason)


@dataclasses.dataclass(frozen=True)
class Case:
    """A row: frames in their order, and what the gate remembers in the end."""

    says: str
    steps: tuple[Step, ...]
    flows: int
    fragments: int
    setup: Setup


def case(says: str, *steps: Step, flows: int = 0, fragments: int = 0, **setup: Any) -> Case:
    return Case(says, steps, flows, fragments, Setup(**setup))


def each(family: Family, *cases: Case) -> Iterator[Case]:
    """Say which IP version the rows are about."""
    return (dataclasses.replace(case, says=f"{family}: {case.says}") for case in cases)


def under(setup: Setup, cases: Iterable[Case]) -> list[Case]:
    """The same rows for another vNIC."""
    return [dataclasses.replace(case, setup=setup) for case in cases]


def play(stage: Stage, case: Case) -> GateUnderTest:
    """Send a row's frames and compare everything that the row says."""
    gate = stage.set(case.setup.world(), PATH)
    for number, step in enumerate(case.steps, start=1):
        fate = gate.send(step.direction, step.frame)
        assert fate.reason is step.reason, f"frame {number} of {len(case.steps)}: {fate}, not {step.reason!r}"
        assert fate.passed == (step.reason is Reason.NONE)
    assert gate.flows.count() == case.flows, "flows"
    assert gate.fragments() == case.fragments, "datagrams of which a first fragment is remembered"
    assert {denial.reason for denial in gate.denials()} == {step.reason for step in case.steps if step.reason}
    return gate
