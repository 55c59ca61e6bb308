"""Hosts whose gates are of an older layout, and what goes on there while an agent replaces them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Self

import pytest
from conftest import NETWORK, machine
from frames import ACK, ARP, BROADCAST, IPV4, SYN, TCP, UDP, arp, ethernet, ipv4, summed, tcp, udp
from namespaces import Tap, enter_new_network, in_a_thread, ip, mount_bpf
from oldgates import OLD_GATES

from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.compile import compile_host

SIZES = {"denials": 1024, "vnics": 64, "meters": 64, "slots": 64, "flows": 64}
VM, PEER, VM_MAC, PEER_MAC = "10.0.0.1", "10.0.0.2", "52:54:00:00:00:01", "52:54:00:00:00:02"
ALLOWED, FORBIDDEN, QUOTA = 53, 54, 64
OUT, IN = Direction.EGRESS, Direction.INGRESS


def ruleset() -> HostRuleset:
    """TCP and UDP to the port ``ALLOWED`` is let through, both ways; nothing else is."""
    scope = Scope("/acme/shop")
    ports = tuple(PortRange(protocol=protocol, first=ALLOWED, last=ALLOWED) for protocol in (TCP, UDP))
    rules = {
        direction: (
            Rule(
                ref=RuleRef.of(scope, "dns", direction, "r"),
                action=Action.ACCEPT,
                clauses=(Clause(peer=InCidr(prefix=IPv4Network("10.0.0.0/8")), ports=ports),),
            ),
        )
        for direction in Direction
    }
    policy = Policy(
        name="dns", scope=scope, tier=Tier.TENANT, priority=500, staged=False, subject=Group(scope=scope), rules=rules
    )
    vm = machine("vm", VM, "10.0.0.9")
    return compile_host(World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm}, policies=(policy,)), "h", [vm.path])


def outwards(protocol: int, payload: bytes, source: str = VM) -> bytes:
    return ethernet(VM_MAC, PEER_MAC, IPV4, summed(ipv4(source, PEER, protocol, payload)))


def inwards(protocol: int, payload: bytes) -> bytes:
    return ethernet(PEER_MAC, VM_MAC, IPV4, summed(ipv4(PEER, VM, protocol, payload)))


class Host:
    """A bridge with a VM's tap, gated of old, and a neighbour's; a connection is open between them."""

    def __init__(self, version: int, bpffs: Path, scratch: Path) -> None:
        self.version = version
        self.bpffs = bpffs
        self.vm, self.peer = Tap("vm0"), Tap("peer0")
        ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        for name in ("vm0", "peer0"):
            ip("link", "set", name, "master", "br0", "up")
        ip("link", "set", "br0", "up")
        self.peer.send(ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM)))
        self.rules = ruleset()
        self.old = OLD_GATES[version](bpffs, scratch, quota=QUOTA, sizes=SIZES)
        self.old.guard(self.vm.ifindex, self.rules)
        self.vm.received()
        assert self.out(TCP, tcp(1000, ALLOWED, SYN, seq=100))
        assert self.into(TCP, tcp(ALLOWED, 1000, SYN | ACK, seq=500, ack=101))
        assert self.talk(101, 501)
        assert not self.out(UDP, udp(1, FORBIDDEN))

    @property
    def vnic(self) -> GuardedVnic:
        return self.rules.vnics[0]

    def out(self, protocol: int, payload: bytes, source: str = VM) -> bool:
        """Send from the VM, and say whether it reaches the neighbour."""
        return self._passes(self.vm, self.peer, outwards(protocol, payload, source))

    def into(self, protocol: int, payload: bytes) -> bool:
        return self._passes(self.peer, self.vm, inwards(protocol, payload))

    def talk(self, seq: int, ack: int) -> bool:
        """Whether the connection goes on, both ways."""
        return self.out(TCP, tcp(1000, ALLOWED, ACK, b"x" * 9, seq=seq, ack=ack)) and self.into(
            TCP, tcp(ALLOWED, 1000, ACK, seq=ack, ack=seq + 9)
        )

    def start(self) -> Gates:
        """What a new agent does first."""
        return Gates.open(self.bpffs, sizes=SIZES, flow_quota=QUOTA)

    @staticmethod
    def _passes(source: Tap, target: Tap, frame: bytes) -> bool:
        target.received()
        source.send(frame)
        return frame in target.received()


class Flood:
    """Denied and accepted packets from the VM, as fast as they go."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stop = threading.Event()
        self.sent = self.leaked = self.arrived = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        bad, good = outwards(UDP, udp(2, FORBIDDEN)), outwards(UDP, udp(2, ALLOWED))
        while not self._stop.is_set():
            self._host.vm.send(bad)
            self._host.vm.send(good)
            self.sent += 1
            for frame in self._host.peer.received():
                self.leaked += frame == bad
                self.arrived += frame == good


class Stream(threading.Thread):
    """The open connection carries data from the VM, and what is lost comes again, as TCP has it."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self.over = threading.Event()
        self.segments = 0
        self.seq = 110

    def run(self) -> None:
        data = b"x" * 400  # most of the window of 500 bytes
        while not self.over.is_set():
            came = self._host.out(TCP, tcp(1000, ALLOWED, ACK, data, seq=self.seq, ack=501))
            acknowledged = came and self._host.into(TCP, tcp(ALLOWED, 1000, ACK, seq=501, ack=self.seq + len(data)))
            if acknowledged:
                self.seq += len(data)
                self.segments += 1


EACH = pytest.mark.parametrize("version", OLD_GATES, ids=lambda version: f"v{version}")


def upgraded(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test on hosts of older layouts, in namespaces of their own."""

    def run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: int, has_tcx: bool = True, **more: Any
    ) -> None:
        if not has_tcx:
            monkeypatch.setattr(Attacher, "_has_tcx", has_tcx)

        def body() -> None:
            enter_new_network()
            bpffs = mount_bpf(tmp_path / "bpf")
            host = Host(version, bpffs / "serai", tmp_path)
            try:
                test(host, monkeypatch, **more)
            finally:
                host.vm.delete()
                host.peer.delete()
                host.old.close()

        in_a_thread(body)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.pytestmark = [EACH, *getattr(test, "pytestmark", [])]  # type: ignore[attr-defined]
    return run


def of_layout_2(test: Callable[[Host], None]) -> Callable[..., None]:
    """Run a test of what only the later of the old layouts knows."""

    @upgraded
    def body(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        del monkeypatch
        test(host)

    def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        body(tmp_path, monkeypatch, version=2)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}
