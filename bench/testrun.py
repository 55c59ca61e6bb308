"""What a packet costs in the gate (BPF_PROG_TEST_RUN), with one tenant loaded and with a thousand."""

from __future__ import annotations

import statistics
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.metric import Metric
from serai.datapath import testrun
from serai.datapath.attach import Attacher
from serai.datapath.flows import FlowTables
from serai.datapath.gates import Gates
from serai.datapath.object import GateObject
from serai.model.inventory import Mac, Network, VirtualMachine, Vnic, VnicId, vnic_id
from serai.model.policy import (
    Action,
    Clause,
    Direction,
    Expression,
    Group,
    Operator,
    Policy,
    PortRange,
    Rule,
    RuleRef,
    Tier,
)
from serai.model.ruleset import GuardedVnic
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

TENANTS = 1024
_REPEAT = 200_000
_ROUNDS = 7
_TCP, _SYN, _ACK = 6, 2, 16
_ROLES = ("web", "app", "db")


def measure() -> Iterator[Metric]:
    """Median nanoseconds a packet, and how they change from 1 tenant to ``TENANTS`` with the same working set."""
    # Interleaved, so that whatever else the machine does hits both alike.
    few, many = _Gate(1), _Gate(TENANTS)
    rounds = [(few.round(), many.round()) for _ in range(_ROUNDS)]
    for kind in ("established", "denied"):
        ratio = statistics.median(b[kind] / a[kind] for a, b in rounds)
        yield Metric(name=f"testrun.{kind}_ns", value=statistics.median(b[kind] for _, b in rounds), unit="ns")
        yield Metric(name=f"testrun.{kind}_flatness_{TENANTS}", value=ratio, unit="x 1 tenant", goal=1.15)


class _Gate:
    """A gate with the policies of some tenants loaded, guarding one VM of the first."""

    def __init__(self, tenants: int) -> None:
        world = _world(tenants)
        self._object = GateObject.load(None)
        flows = FlowTables(self._object.maps["flows"])
        gates = Gates(self._object, Attacher(Path("/nonexistent"), {}), flows)
        gates.count_drops_of([VnicId(0)])
        ruleset = compile_host(world, "bench", world.vms)
        gates.prepare(ruleset)
        self._vnic = next(vnic for vnic in ruleset.vnics if vnic.path.startswith("/t0/shop:web"))
        gates.bind({testrun.LOOPBACK: self._vnic})
        self._run(_frame(self._vnic, "10.0.0.2", 8080, _SYN), 1)

    def round(self) -> dict[str, float]:
        """Nanoseconds of one packet of each kind."""
        return {
            "established": self._run(_frame(self._vnic, "10.0.0.2", 8080, _ACK), _REPEAT),
            "denied": self._run(_frame(self._vnic, "10.0.0.3", 5432, _SYN), _REPEAT),
        }

    def _run(self, frame: bytes, repeat: int) -> float:
        return testrun.run(self._object.programs["from_vm"], frame, repeat=repeat)[1]


def _frame(vnic: GuardedVnic, target: str, port: int, flags: int) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 5 << 4, flags, 500, 0, 0)
    addresses = vnic.addresses[0].packed + IPv4Address(target).packed
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, _TCP, 0) + addresses
    return bytes(6) + vnic.mac.packed + b"\x08\x00" + ip + tcp


def _world(tenants: int) -> World:
    vms: dict[str, VirtualMachine] = {}
    policies: list[Policy] = []
    for number in range(tenants):
        scope = Scope(f"/t{number}/shop")
        network = Network(
            name="front", scope=Scope(f"/t{number}"), routing_domain=f"t{number}",
            subnets=(IPv4Network("10.0.0.0/24"),),
        )  # fmt: skip
        for at, role in enumerate(_ROLES, start=1):
            vnic = Vnic(
                id=vnic_id(scope, role, "eth0"), name="eth0", network=network,
                mac=Mac(f"52:54:{number >> 8:02x}:{number & 255:02x}:00:{at:02x}"),
                addresses=(network.subnets[0][at],),
            )  # fmt: skip
            vm = VirtualMachine(name=role, scope=scope, labels={"role": role}, mode=Mode.ENFORCE, vnics=(vnic,))
            vms[vm.path] = vm
        policies += [_policy(scope, "web", "app", 8080), _policy(scope, "app", "db", 5432)]
    return World(vms=vms, policies=tuple(policies))


def _policy(scope: Scope, subject: str, peer: str, port: int) -> Policy:
    def group(role: str) -> Group:
        wanted = Expression(key="role", operator=Operator.IN, values=frozenset({role}))
        return Group(scope=scope, expressions=frozenset({wanted}))

    ref = RuleRef.of(scope, subject, Direction.EGRESS, "next")
    clause = Clause(peer=group(peer), ports=(PortRange(protocol=_TCP, first=port, last=port),))
    rule = Rule(ref=ref, action=Action.ACCEPT, clauses=(clause,))
    return Policy(
        name=subject, scope=scope, tier=Tier.TENANT, priority=500, staged=False, subject=group(subject),
        rules={Direction.EGRESS: (rule,)},
    )  # fmt: skip
