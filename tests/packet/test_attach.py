"""The gate on real taps: attached, replaced under load, left behind by a killed agent, adopted, cleaned up.

Every test runs in a thread with a network and a mount namespace of its own, which the kernel takes away with
it: taps, bridges, pins and the bpffs that holds them go however the test ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from conftest import NETWORK, SIZES, machine
from frames import ARP, BROADCAST, IPV4, IPV6, TCP, UDP, VLAN, arp, ethernet, ipv4, summed, udp
from namespaces import Tap, enter_new_network, in_a_thread, ip, mount_bpf

from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.libbpf import KernelError
from serai.datapath.object import GateObject
from serai.datapath.preflight import kernel_version
from serai.datapath.queue import flush
from serai.model.host_facts import Feature
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

SIOCGIFTXQLEN = 0x8942
VM, PEER, VM_MAC, PEER_MAC = "10.0.0.1", "10.0.0.2", "52:54:00:00:00:01", "52:54:00:00:00:02"
ALLOWED, FORBIDDEN = 53, 54
STRAY_IPV6 = b"\x60\0\0\0\0\x08\x11\x40" + IPv6Address("2001:db8::1").packed * 2 + udp(1000, ALLOWED, b"")
OUT, IN = Direction.EGRESS, Direction.INGRESS

HAS_TCX = kernel_version(platform.release()) >= (6, 6)
"""What the kernel's age says; the gate's loader asks the kernel instead."""


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in namespaces of its own, with a bpffs mounted at ``tmp_path/bpf``."""

    @functools.wraps(test)
    def run(tmp_path: Path, **fixtures: Any) -> None:
        def body() -> None:
            enter_new_network()
            mount_bpf(tmp_path / "bpf")
            test(tmp_path, **fixtures)

        in_a_thread(body)

    return run


class Wire:
    """A guarded VM's tap and a neighbour's, which has no gate, on one bridge."""

    def __init__(self) -> None:
        self.vm, self.peer = Tap("vm0"), Tap("peer0")
        ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        for name in ("vm0", "peer0"):
            ip("link", "set", name, "master", "br0", "up")
        ip("link", "set", "br0", "up")
        # Each learns where the other is, as at the first packet of a life.
        self.peer.send(ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM)))
        self.vm.received()

    def close(self) -> None:
        self.vm.delete()
        self.peer.delete()


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        yield made
    finally:
        made.close()


def outwards(port: int) -> bytes:
    return ethernet(VM_MAC, PEER_MAC, IPV4, summed(ipv4(VM, PEER, UDP, udp(1000, port, b"out"))))


def inwards(port: int) -> bytes:
    return ethernet(PEER_MAC, VM_MAC, IPV4, summed(ipv4(PEER, VM, UDP, udp(1000, port, b"in"))))


def tagged(frame: bytes) -> bytes:
    return frame[:12] + VLAN.to_bytes(2, "big") + b"\0\5" + frame[12:]


def ruleset() -> HostRuleset:
    """UDP to the port ``ALLOWED`` is let through, both ways; nothing else is."""
    scope = Scope("/acme/shop")
    rules = {
        direction: (
            Rule(
                ref=RuleRef.of(scope, "dns", direction, "r"),
                action=Action.ACCEPT,
                clauses=(
                    Clause(
                        peer=InCidr(prefix=IPv4Network("10.0.0.0/8")),
                        ports=(PortRange(protocol=UDP, first=ALLOWED, last=ALLOWED),),
                    ),
                ),
            ),
        )
        for direction in Direction
    }
    policy = Policy(
        name="dns", scope=scope, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=scope), rules=rules
    )
    vm = machine("vm", VM)
    world = World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm}, policies=(policy,))
    return compile_host(world, "host", [vm.path])


def gates(loaded: GateObject, links: Path, *, use_tcx: bool = True) -> Gates:
    attacher = Attacher(links, loaded.programs, use_tcx=use_tcx)
    return Gates(loaded, attacher, flow_quota=64)


def drops(found: Gates, *, vnic: int = 0) -> dict[tuple[Direction, Reason], int]:
    return {(d.direction, d.reason): d.packets for d in found.drops() if d.vnic == vnic}


@contextlib.contextmanager
def loaded(pins: Path | None = None) -> Iterator[GateObject]:
    found = GateObject.load(pins, sizes=SIZES)
    try:
        yield found
    finally:
        found.close()


def the_vnic(rules: HostRuleset) -> GuardedVnic:
    (vnic,) = rules.vnics
    return vnic


def crosses(found: Wire) -> tuple[list[bytes], list[bytes]]:
    """Send one frame each way that policy allows; return what arrives: at the peer, at the VM."""
    found.peer.received()
    found.vm.received()
    found.vm.send(outwards(ALLOWED))
    found.peer.send(inwards(ALLOWED))
    return found.peer.received(), found.vm.received()


BOTH_WAYS = pytest.mark.parametrize("use_tcx", [True, False], ids=["tcx", "clsact"])
OPEN = ([outwards(ALLOWED)], [inwards(ALLOWED)])
SHUT: tuple[list[bytes], list[bytes]] = ([], [])


@BOTH_WAYS
@isolated
def test_a_gate_is_closed_until_it_is_bound(tmp_path: Path, *, use_tcx: bool) -> None:
    with wire() as found, loaded() as gate:
        assert crosses(found) == OPEN, "without a gate everything passes"
        guard = gates(gate, tmp_path / "bpf" / "links", use_tcx=use_tcx)
        assert guard.attach(found.vm.ifindex) is True
        assert crosses(found) == SHUT
        assert drops(guard) == {(OUT, Reason.UNKNOWN_VNIC): 1, (IN, Reason.UNKNOWN_VNIC): 1}
        rules = ruleset()
        guard.prepare(rules)
        assert crosses(found) == SHUT, "tables alone open nothing"
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        assert crosses(found) == OPEN
        found.vm.send(outwards(FORBIDDEN))
        found.peer.send(inwards(FORBIDDEN))
        assert (found.peer.received(), found.vm.received()) == SHUT
        assert drops(guard, vnic=the_vnic(rules).id) == {(OUT, Reason.DENIED): 1, (IN, Reason.DENIED): 1}
        guard.unbind(found.vm.ifindex)
        assert crosses(found) == SHUT
        assert guard.attach(found.vm.ifindex) is False, "attached already: adopted"
        assert crosses(found) == SHUT


@isolated
def test_the_kernel_says_which_way_to_attach(tmp_path: Path) -> None:
    links = tmp_path / "bpf" / "links"
    with wire() as found, loaded() as gate:
        gates(gate, links).attach(found.vm.ifindex)
        pins = {f"{found.vm.ifindex}-{name}" for name in gate.programs}
        assert {pin.name for pin in links.glob("*")} == (pins if HAS_TCX else set())
        for name, hook in (("from_vm", "ingress"), ("to_vm", "egress")):
            shown = subprocess.run(["tc", "filter", "show", "dev", "vm0", hook], check=True, capture_output=True)
            assert (name in shown.stdout.decode()) is not HAS_TCX
        assert crosses(found) == SHUT


@BOTH_WAYS
@isolated
def test_what_the_kernel_has_is_told(tmp_path: Path, *, use_tcx: bool) -> None:
    with loaded() as gate:
        found = gates(gate, tmp_path / "bpf" / "links", use_tcx=use_tcx).features()
    assert (Feature.TCX in found) == (use_tcx and HAS_TCX)


@BOTH_WAYS
@isolated
def test_forged_sources_do_not_leave_the_tap(tmp_path: Path, *, use_tcx: bool) -> None:
    address = ethernet(VM_MAC, PEER_MAC, IPV4, summed(ipv4("10.0.0.77", PEER, UDP, udp(1000, ALLOWED, b"forged"))))
    mac = ethernet("52:54:00:00:00:77", PEER_MAC, IPV4, outwards(ALLOWED)[14:])
    with wire() as found, loaded() as gate:
        found.vm.send(address)
        found.vm.send(mac)
        assert found.peer.received() == [address, mac], "without a gate they pass"
        guard = gates(gate, tmp_path / "bpf" / "links", use_tcx=use_tcx)
        guard.attach(found.vm.ifindex)
        rules = ruleset()
        guard.prepare(rules)
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        found.vm.send(address)
        found.vm.send(mac)
        assert found.peer.received() == []
        assert drops(guard, vnic=the_vnic(rules).id) == {(OUT, Reason.FOREIGN_IP): 1, (OUT, Reason.FOREIGN_MAC): 1}
        assert crosses(found) == OPEN, "its own pass"


@isolated
def test_a_bound_gate_knows_one_tap_only(tmp_path: Path) -> None:
    with wire() as found, loaded() as gate:
        guard = gates(gate, tmp_path / "bpf" / "links")
        guard.attach(found.vm.ifindex)
        guard.attach(found.peer.ifindex)
        rules = ruleset()
        guard.prepare(rules)
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        assert crosses(found) == SHUT
        # The peer's gate is closed, and is what drops: the VM's let its frame out, and got none in.
        assert drops(guard) == {(OUT, Reason.UNKNOWN_VNIC): 1, (IN, Reason.UNKNOWN_VNIC): 1}
        assert drops(guard, vnic=the_vnic(rules).id) == {}


@BOTH_WAYS
@isolated
def test_replacing_programs_under_a_flood_leaks_nothing(tmp_path: Path, *, use_tcx: bool) -> None:
    """Two agents' programs take turns on one tap while both ends flood it with what policy denies."""
    pins, links = tmp_path / "bpf" / "maps", tmp_path / "bpf" / "links"
    with wire() as found, loaded(pins) as one, loaded(pins) as other:
        turns = [gates(gate, links, use_tcx=use_tcx) for gate in (one, other)]
        rules = ruleset()
        turns[0].attach(found.vm.ifindex)
        turns[0].prepare(rules)
        turns[0].bind({found.vm.ifindex: the_vnic(rules)})
        assert crosses(found) == OPEN
        enough = threading.Event()
        sent = {OUT: 0, IN: 0}

        def flood() -> None:
            while not enough.is_set():
                found.vm.send(outwards(FORBIDDEN))
                sent[OUT] += 1
                found.peer.send(inwards(FORBIDDEN))
                sent[IN] += 1

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            replaced = [turns[turn % 2].attach(found.vm.ifindex) for turn in range(1, 401)]
        finally:
            enough.set()
            flooding.join()
        assert (found.peer.received(), found.vm.received()) == SHUT
        assert not any(replaced), "each found a gate in place"
        counted = drops(turns[0], vnic=the_vnic(rules).id)
        assert counted == {(OUT, Reason.DENIED): sent[OUT], (IN, Reason.DENIED): sent[IN]}
        assert sent[OUT] > 200, "there was hardly a flood"
        assert crosses(found) == OPEN, "what is allowed came through all the time"


AGENT = """
import json, sys, time
from pathlib import Path
from serai.datapath.gates import Gates
gates = Gates.open(Path(sys.argv[1]), sizes=json.loads(sys.argv[3]), flow_quota=64)
print(gates.attach(int(sys.argv[2])), flush=True)
time.sleep(600)
"""


@isolated
def test_the_gate_outlives_a_killed_agent(tmp_path: Path) -> None:
    bpffs = tmp_path / "bpf"
    with wire() as found:
        command = [sys.executable, "-c", AGENT, str(bpffs), str(found.vm.ifindex), json.dumps(SIZES)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == "True\n"
            agent.send_signal(signal.SIGKILL)
        assert agent.returncode == -signal.SIGKILL
        assert crosses(found) == SHUT, "the dead agent's gate still drops"
        guard = Gates.open(bpffs, sizes=SIZES, flow_quota=64)
        try:
            assert guard.adopted() == {found.vm.ifindex}
            assert drops(guard) == {(OUT, Reason.UNKNOWN_VNIC): 1, (IN, Reason.UNKNOWN_VNIC): 1}, "counters go on"
            assert guard.attach(found.vm.ifindex) is False
            rules = ruleset()
            guard.prepare(rules)
            guard.bind({found.vm.ifindex: the_vnic(rules)})
            assert crosses(found) == OPEN
            assert len(list(guard.flows.rows(0))) == 2
        finally:
            guard.close()
        # And the next agent finds the vNIC bound, its tables and its flows.
        again = Gates.open(bpffs, sizes=SIZES, flow_quota=64)
        try:
            assert again.bound() == {found.vm.ifindex: the_vnic(rules).id}
            assert len(list(again.flows.rows(0))) == 2
            assert crosses(found) == OPEN
        finally:
            again.close()


@isolated
def test_a_pin_of_a_tap_that_is_gone_does_not_hide_its_successor(tmp_path: Path) -> None:
    links = tmp_path / "bpf" / "links"
    with loaded() as gate, contextlib.ExitStack() as taps:
        guard = gates(gate, links)
        first = Tap("old0", ifindex=700)
        taps.callback(first.delete)
        first.up()
        guard.attach(700)
        first.delete()
        assert guard.adopted() == ({700} if HAS_TCX else set()), "a pin stays behind; a filter goes with its tap"
        second = Tap("new0", ifindex=700)  # the same number again, as after some billions of taps
        taps.callback(second.delete)
        second.up()
        before = drops(guard)
        second.send(outwards(ALLOWED))
        assert drops(guard) == before, "this tap has no gate yet"
        assert guard.attach(700) is True
        second.send(outwards(ALLOWED))
        assert drops(guard)[OUT, Reason.UNKNOWN_VNIC] == before.get((OUT, Reason.UNKNOWN_VNIC), 0) + 1


@BOTH_WAYS
@isolated
def test_forgetting_a_tap_cleans_up_behind_it(tmp_path: Path, *, use_tcx: bool) -> None:
    links = tmp_path / "bpf" / "links"
    with wire() as found, loaded() as gate:
        guard = gates(gate, links, use_tcx=use_tcx)
        assert guard.adopted() == set()
        guard.attach(found.vm.ifindex)
        rules = ruleset()
        guard.prepare(rules)
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        assert (guard.adopted(), guard.bound().keys()) == ({found.vm.ifindex}, {found.vm.ifindex})
        found.vm.delete()
        guard.forget(found.vm.ifindex)
        guard.forget(found.vm.ifindex)
        assert (guard.adopted(), guard.bound()) == (set(), {})
        assert list(links.glob("*")) == []


@BOTH_WAYS
@isolated
def test_a_tap_that_is_gone_cannot_be_guarded(tmp_path: Path, *, use_tcx: bool) -> None:
    with loaded() as gate:
        guard = gates(gate, tmp_path / "bpf" / "links", use_tcx=use_tcx)
        with pytest.raises(KernelError):
            guard.attach(4711)
        assert guard.adopted() == set()


@BOTH_WAYS
@isolated
def test_tags_in_the_metadata_are_seen(tmp_path: Path, *, use_tcx: bool) -> None:
    """The kernel takes the tag out of the frame before the gate sees it: what is left looks like any IPv4."""
    with wire() as found, loaded() as gate:
        frames = tagged(outwards(ALLOWED)), tagged(inwards(ALLOWED))
        found.vm.send(frames[0])
        found.peer.send(frames[1])
        assert (found.peer.received(), found.vm.received()) == ([frames[0]], [frames[1]]), "the bridge carries tags"
        guard = gates(gate, tmp_path / "bpf" / "links", use_tcx=use_tcx)
        guard.attach(found.vm.ifindex)
        rules = ruleset()
        guard.prepare(rules)
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        found.vm.send(frames[0])
        found.peer.send(frames[1])
        assert (found.peer.received(), found.vm.received()) == SHUT
        assert drops(guard, vnic=the_vnic(rules).id) == {(OUT, Reason.VLAN): 1, (IN, Reason.VLAN): 1}
        assert list(guard.flows.rows(0)) == []
        assert crosses(found) == OPEN, "without a tag they pass"


def _queue_length(tap: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, SIOCGIFTXQLEN, struct.pack("16si20x", tap.encode(), 0))
    return int(struct.unpack("16si20x", answer)[1])


@isolated
def test_flush_drops_what_waits(tmp_path: Path) -> None:
    with wire() as found:
        for length in (1000, 17):
            ip("link", "set", "vm0", "txqueuelen", length)
            for _ in range(9):
                found.peer.send(inwards(ALLOWED))
            flush("vm0")
            assert found.vm.received() == []
            assert _queue_length("vm0") == length
            found.peer.send(inwards(ALLOWED))
            assert found.vm.received() == [inwards(ALLOWED)], "the queue goes on working"
    assert tmp_path.is_dir()


@isolated
def test_flush_of_a_tap_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="gone0"):
        flush("gone0")
    assert tmp_path.is_dir()


@isolated
def test_no_frame_that_came_before_the_gate_comes_out_behind_it(tmp_path: Path) -> None:
    """What the agent does with a new tap: the gate first, then empty the queue."""
    with wire() as found, loaded() as gate:
        found.peer.send(inwards(FORBIDDEN))
        guard = gates(gate, tmp_path / "bpf" / "links")
        guard.attach(found.vm.ifindex)
        found.peer.send(inwards(FORBIDDEN))
        flush("vm0")
        found.peer.send(inwards(FORBIDDEN))
        assert found.vm.received() == []


@isolated
def test_other_protocols_than_ip_do_not_slip_by(tmp_path: Path) -> None:
    with wire() as found, loaded() as gate:
        guard = gates(gate, tmp_path / "bpf" / "links")
        guard.attach(found.vm.ifindex)
        rules = ruleset()
        guard.prepare(rules)
        guard.bind({found.vm.ifindex: the_vnic(rules)})
        found.vm.send(ethernet(VM_MAC, PEER_MAC, 0x88CC, bytes(60)))
        found.vm.send(ethernet(VM_MAC, PEER_MAC, 0x0026, bytes(60)))
        found.vm.send(ethernet(VM_MAC, PEER_MAC, IPV6, STRAY_IPV6))
        found.vm.send(ethernet(VM_MAC, PEER_MAC, IPV6, b"\x60"))
        found.vm.send(ethernet(VM_MAC, PEER_MAC, IPV4, summed(ipv4(VM, PEER, TCP, b"short"))))
        found.vm.send(ethernet(VM_MAC, PEER_MAC, IPV4, b"\x45"))  # TEST_RUN refuses frames as short as this
        assert found.peer.received() == []
        assert drops(guard, vnic=the_vnic(rules).id) == {
            (OUT, Reason.ETHERTYPE): 1,
            (OUT, Reason.LLC): 1,
            (OUT, Reason.FOREIGN_IP): 1,
            (OUT, Reason.MALFORMED): 3,
        }
