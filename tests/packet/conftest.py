"""A gate in the kernel, without devices: frames in, verdict, reason and flow out."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import numpy as np
import pytest

from serai.datapath import layout, testrun
from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.maps import Map
from serai.datapath.object import GateObject
from serai.model.flow import DropSample, FlowRow
from serai.model.inventory import Mac, Network, PortSecurity, VirtualMachine, Vnic, vnic_id
from serai.model.policy import Direction
from serai.model.reasons import Reason
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

PASSED, DROPPED = -1, 2
PROGRAM = {Direction.EGRESS: "from_vm", Direction.INGRESS: "to_vm"}
SIDE = {Direction.EGRESS: layout.EGRESS, Direction.INGRESS: layout.INGRESS}

SIZES = {"denials": 1024, "meters": 64, "flows": 64, "fragments": 1024}

pytestmark = pytest.mark.kernel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packet tests load programs into the kernel: that takes root."""
    if os.geteuid():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root: it loads programs into the kernel"))


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """What became of a frame."""

    passed: bool
    reason: Reason
    """Counted by the gate for this frame; NONE where it counted nothing."""


class GateUnderTest:
    """One gate on the loopback interface's number, and what it counted."""

    def __init__(self, loaded: GateObject) -> None:
        self.object = loaded
        self.gates = Gates(loaded, Attacher(Path("/nonexistent"), {}), flow_quota=64, flow_rate=0)
        self.flows = self.gates.flows
        self.world = World()

    def guard(
        self, world: World, vm: str, *, card: str = "eth0", mode: Mode | None = None, ifindex: int = testrun.LOOPBACK
    ) -> None:
        """Compile ``world`` and let the gate guard the vNIC ``card`` of ``vm``."""
        self.world = world
        ruleset = compile_host(world, "host", [vm])
        self.gates.prepare(ruleset)
        (vnic,) = (v for v in ruleset.vnics if v.path == f"{vm}/{card}")
        if mode is not None:
            vnic = dataclasses.replace(vnic, mode=mode)
        self.gates.bind({ifindex: vnic})
        self.gates.discard_others(ruleset)

    def send(self, direction: Direction, frame: bytes, *, gso_segs: int = 0, ifindex: int = testrun.LOOPBACK) -> Fate:
        """Run one frame through the gate."""
        before = self.counts()
        padded = frame + bytes(max(0, 34 - len(frame)))  # what TEST_RUN asks for at the least
        result, _ = testrun.run(self.object.programs[PROGRAM[direction]], padded, gso_segs=gso_segs, ifindex=ifindex)
        assert result in (PASSED, DROPPED)
        reason = self.reason_since(before, direction)
        assert (result == DROPPED) <= (reason is not Reason.NONE), "dropped without a reason"
        return Fate(result == PASSED, reason)

    def reason_since(self, before: np.ndarray, direction: Direction) -> Reason:
        """For what a frame was dropped since ``counts`` said ``before``; NONE: for nothing."""
        counted = np.argwhere(self.counts() > before).tolist()
        assert len(counted) <= 1, f"one frame, several reasons: {counted}"
        if not counted:
            return Reason.NONE
        ((side, number),) = counted
        assert side == SIDE[direction]
        return Reason(number)

    def rows(self) -> list[FlowRow]:
        return list(self.flows.rows(time.monotonic_ns()))

    def denials(self) -> list[FlowRow]:
        return list(self.gates.denials.rows(time.monotonic_ns()))

    def samples(self) -> list[DropSample]:
        """What the ring told of since the last time."""
        samples = self.gates.samples
        before = samples.seen
        samples.read()
        return list(samples.latest(time.monotonic_ns()))[-(samples.seen - before) or samples.seen :]

    def fragments(self) -> int:
        """For how many datagrams there is an entry, complete ones among them."""
        return len(self.object.maps["fragments"].dump()[0])

    def forget(self) -> None:
        """Let nothing that was sent matter to what comes."""
        self.gates.samples.read()
        ended = self.flows._ended
        ended._ended = ended._ended[:0]
        self.forget_flows()
        for name in ("denials", "fragments", "sightings"):
            _empty(self.object.maps[name])
        meters = self.object.maps["meters"]
        for slot in self._slots:
            meter = meters.get(slot)
            assert meter is not None
            for field in ("second", "opened", "denied"):
                meter[field] = 0
            meters.update(np.array([slot]), meter)

    def forget_flows(self) -> None:
        """Let the gate judge the next packet as if it were the first."""
        for vnic in self.world.vms.values():
            for table in (self.flows.table(v.id) for v in vnic.vnics):
                if table is not None:
                    _empty(table)

    def clear(self) -> None:
        """Leave the kernel's maps empty for the next test."""
        self.forget()
        for ifindex in self.gates.bound():
            self.gates.unbind(ifindex)
        self.flows.remove_others(set())
        for name in ("addresses", "macs", "endpoints", "prefixes", "lists", "pages"):
            self.object.maps[name].delete(self.object.maps[name].dump()[0])

    def counts(self) -> np.ndarray:
        """Drops by direction and reason, of whomever."""
        meters = [self.object.maps["meters"].get(slot) for slot in (0, *self._slots)]
        return np.sum([meter["drops"][0] for meter in meters if meter is not None], axis=0)

    @property
    def _slots(self) -> list[int]:
        return list(self.gates._slots.given.values())


def _empty(target: Map) -> None:
    """Delete what is in a map, which is little: to read it in one piece needs room for much."""
    for key in [key for key, _ in target._one_by_one()]:
        target.delete(key)


class Stage:
    """A gate that is bound anew only where the next test needs another world."""

    def __init__(self, loaded: GateObject) -> None:
        self.gate = GateUnderTest(loaded)

    def set(self, world: World, vm: str) -> GateUnderTest:
        """The gate, guarding ``vm``, with nothing remembered."""
        if world != self.gate.world:
            self.gate.guard(world, vm)
        self.gate.forget()
        return self.gate


@pytest.fixture(scope="session")
def loaded_gate() -> Iterator[GateObject]:
    """The gate in the kernel: the verifier needs half a second for it."""
    loaded = GateObject.load(None, sizes=SIZES)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def stage(loaded_gate: GateObject) -> Iterator[Stage]:
    """One gate for all rows of a module; not beside ``gate``, which is the same one in the kernel."""
    made = Stage(loaded_gate)
    yield made
    made.gate.clear()


@pytest.fixture
def gate(loaded_gate: GateObject) -> Iterator[GateUnderTest]:
    """A gate that knows and remembers nothing."""
    made = GateUnderTest(loaded_gate)
    yield made
    made.clear()


NETWORK = Network(
    name="front",
    scope=Scope("/acme"),
    routing_domain="acme",
    subnets=(IPv4Network("10.0.0.0/24"), IPv6Network("2001:db8::/64")),
)
PLAIN = PortSecurity()


def machine(
    name: str, *addresses: str, scope: str = "/acme/shop", mode: Mode = Mode.ENFORCE, network: Network = NETWORK,
    security: PortSecurity = PLAIN, **labels: str,
) -> VirtualMachine:  # fmt: skip
    """A VM with one vNIC, whose MAC is made from its first address."""
    host = int(ip_address(addresses[0])) & 0xFF
    vnic = Vnic(
        id=vnic_id(Scope(scope), name, "eth0"),
        name="eth0",
        network=network,
        mac=Mac(f"52:54:00:00:00:{host:02x}"),
        addresses=tuple(map(ip_address, addresses)),
        security=security,
    )
    return VirtualMachine(name=name, scope=Scope(scope), labels=labels, mode=mode, vnics=(vnic,))
