"""An agent that finds the gates of layout 1: it replaces them, and nobody notices.

The old gate is the real one: ``data/gate-v1.o.xz`` was compiled from the last sources with that layout
(commit bef8492), without debug information but for BTF.
"""

from __future__ import annotations

import lzma
import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from conftest import NETWORK, machine
from frames import ACK, ARP, BROADCAST, IPV4, SYN, TCP, UDP, arp, ethernet, ipv4, summed, tcp, udp
from namespaces import Tap, enter_new_network, in_a_thread, ip, mount_bpf

from serai.datapath import attach, layout, layout_v1, libbpf, upgrade
from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.libbpf import KernelError, check, lib
from serai.datapath.maps import Map
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.ruleset import GuardedVnic, HostRuleset
from serai.model.tenancy import Scope
from serai.model.world import World
from serai.policy.compile import compile_host

OBJECT = Path(__file__).parent / "data" / "gate-v1.o.xz"
PINNED = (*layout_v1.MAPS, "denials")
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


class OldGate:
    """The gate of layout 1, loaded and pinned as its agent did."""

    def __init__(self, bpffs: Path, scratch: Path) -> None:
        unpacked = scratch / "gate-v1.o"
        unpacked.write_bytes(lzma.decompress(OBJECT.read_bytes()))
        self._handle = lib.bpf_object__open_file(str(unpacked).encode(), libbpf.NULL)
        pins = bpffs / "v1" / "maps"
        pins.mkdir(parents=True)
        for name in PINNED:
            found = lib.bpf_object__find_map_by_name(self._handle, name.encode())
            check(lib.bpf_map__set_pin_path(found, str(pins / name).encode()), name)
        check(lib.bpf_object__load(self._handle), "load the old gate")
        programs = {
            name: lib.bpf_program__fd(lib.bpf_object__find_program_by_name(self._handle, name.encode()))
            for name in ("from_vm", "to_vm")
        }
        self.maps = {name: Map.pinned(str(pins / name), *kinds) for name, kinds in layout_v1.MAPS.items()}
        self.attacher = Attacher(bpffs / "v1" / "links", programs)

    def guard(self, ifindex: int, rules: HostRuleset) -> None:
        """Attach, load and bind as layout 1 has it."""
        self.attacher.attach(ifindex)
        for name in layout.MAPS.keys() & {"endpoints", "prefixes", "lists", "pages"}:
            records = rules.tables[name]
            parts = []
            for kind in layout_v1.MAPS[name]:
                part = np.zeros(len(records), kind)
                for field in set(kind.names or ()) - {"pad", "address", "length"}:
                    part[field] = records[field]
                if "address" in (kind.names or ()):
                    part["address"] = np.ascontiguousarray(records["address"][:, 12:]).view(">u4").reshape(-1)
                if "length" in (kind.names or ()):
                    part["length"] = records["length"] - 96
                parts.append(part)
            self.maps[name].update(*parts)
        (vnic,) = rules.vnics
        options = libbpf.struct("bpf_map_create_opts", map_flags=1)  # BPF_F_NO_PREALLOC, as it was then
        sizes = (layout_v1.FLOW_KEY.itemsize, layout_v1.FLOW.itemsize)
        table = Map(lib.bpf_map_create(1, b"old_flows", *sizes, QUOTA, options), layout_v1.FLOW_KEY, layout_v1.FLOW)
        self.maps["flows"].update(np.array([vnic.id], "<u8"), np.array([table.fd], "<u4"))
        self.maps["drops"].update(np.array([0, vnic.id], "<u8"), np.zeros(2, layout_v1.DROPS))
        first, second = vnic.addresses
        beside = np.array([(vnic.id, int(second), 0)], layout_v1.ADDRESS_KEY)
        self.maps["addresses"].update(beside, np.ones(1, "<u4"))
        record = np.zeros(1, layout_v1.VNIC)
        record["ifindex"], record["flags"], record["judged_by"], record["id"] = ifindex, 2, vnic.judged_by, vnic.id
        record["view"], record["ruleset"] = vnic.view, [vnic.egress, vnic.ingress]
        record["address"], record["mac"] = int(first), list(vnic.mac.packed)
        self.maps["vnics"].update(np.array([ifindex], "<u4"), record)

    def close(self) -> None:
        lib.bpf_object__close(self._handle)


def outwards(protocol: int, payload: bytes, source: str = VM) -> bytes:
    return ethernet(VM_MAC, PEER_MAC, IPV4, summed(ipv4(source, PEER, protocol, payload)))


def inwards(protocol: int, payload: bytes) -> bytes:
    return ethernet(PEER_MAC, VM_MAC, IPV4, summed(ipv4(PEER, VM, protocol, payload)))


class Host:
    """A bridge with a VM's tap, gated of old, and a neighbour's; a connection is open between them."""

    def __init__(self, bpffs: Path, scratch: Path) -> None:
        self.bpffs = bpffs
        self.vm, self.peer = Tap("vm0"), Tap("peer0")
        ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        for name in ("vm0", "peer0"):
            ip("link", "set", name, "master", "br0", "up")
        ip("link", "set", "br0", "up")
        self.peer.send(ethernet(PEER_MAC, BROADCAST, ARP, arp(1, PEER_MAC, PEER, VM)))
        self.rules = ruleset()
        self.old = OldGate(bpffs, scratch)
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


def upgraded(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test on a host of layout 1, in namespaces of its own."""

    def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_tcx: bool = True, **more: Any) -> None:
        if not has_tcx:
            monkeypatch.setattr(Attacher, "_has_tcx", has_tcx)

        def body() -> None:
            enter_new_network()
            bpffs = mount_bpf(tmp_path / "bpf")
            host = Host(bpffs / "serai", tmp_path)
            try:
                test(host, monkeypatch, **more)
            finally:
                host.vm.delete()
                host.peer.delete()
                host.old.close()

        in_a_thread(body)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
    return run


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def check_all_is_well(host: Host, gates: Gates) -> None:
    assert names(host.bpffs) == {f"v{layout.VERSION}"}
    links = host.bpffs / f"v{layout.VERSION}" / "links"
    if links.exists():  # clsact filters have none
        assert names(links) == {f"{host.vm.ifindex}-{name}" for name in ("from_vm", "to_vm")}
    assert not gates.attach(host.vm.ifindex)
    assert gates.is_attached(host.vm.ifindex)
    assert gates.bound() == {host.vm.ifindex: host.vnic.id}
    assert host.talk(110, 501)
    assert host.out(UDP, udp(1, ALLOWED), source="10.0.0.9")
    assert not host.out(UDP, udp(1, ALLOWED), source="10.0.0.8")
    assert not host.out(UDP, udp(1, FORBIDDEN))
    (flow,) = [row for row in gates.flows.rows(0) if row.protocol == TCP]
    assert (flow.packets_out, flow.packets_in) == (3, 3)
    drops = {(drop.direction, drop.reason): drop.packets for drop in gates.drops()}
    assert drops[OUT, Reason.DENIED] >= 2
    assert drops[OUT, Reason.FOREIGN_IP] == 1


@pytest.mark.parametrize("has_tcx", [True, False], ids=["tcx", "clsact"])
def test_nothing_is_lost_and_nothing_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_tcx: bool) -> None:
    under_load(tmp_path, monkeypatch, has_tcx=has_tcx)


@upgraded
def under_load(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    with Flood(host) as flood:
        gates = host.start()
    assert flood.sent > 100
    assert flood.leaked == 0
    assert flood.arrived == flood.sent
    assert gates.upgraded == [host.vm.ifindex]
    check_all_is_well(host, gates)
    denied = next(d.packets for d in gates.drops() if (d.direction, d.reason) == (OUT, Reason.DENIED))
    assert denied <= flood.sent + 2
    gates.close()


@upgraded
def test_the_next_start_finds_nothing_to_do(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    host.start().close()
    again = host.start()
    assert again.upgraded == []
    check_all_is_well(host, again)
    again.close()


@upgraded
def test_rules_that_stay_judge_no_flow_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    gates = host.start()
    gates.prepare(host.rules)
    gates.bind({host.vm.ifindex: host.vnic})
    assert gates.discard_others(host.rules)
    check_all_is_well(host, gates)
    gates.close()


STEPS: list[tuple[Any, str, int]] = [
    (upgrade, "_carry_tables", 1),
    (upgrade, "_carry_flows", 1),
    (upgrade, "_carry_records", 1),
    (attach.Attacher, "_adopt", 1),
    (attach.Attacher, "_adopt", 2),
    (upgrade, "_carry_flows", 2),
    (upgrade, "_remove", 1),
]


@pytest.mark.parametrize(("place", "step", "time"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_cut_short_it_is_finished_by_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, step: str, time: int
) -> None:
    cut_short(tmp_path, monkeypatch, place=place, step=step, time=time)


@upgraded
def cut_short(host: Host, monkeypatch: pytest.MonkeyPatch, *, place: Any, step: str, time: int) -> None:
    calls = 0
    real = getattr(place, step)

    def dies(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        done = real(*arguments)
        if calls == time:
            raise KernelError(5, "cut short")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(place, step, dies)
        with pytest.raises(KernelError, match="cut short"):
            host.start()
    assert not host.out(UDP, udp(1, FORBIDDEN)), "whichever gate is there, one is"
    gates = host.start()
    check_all_is_well(host, gates)
    gates.close()


@upgraded
def test_a_tap_that_has_gone_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    host.vm.delete()
    gates = host.start()
    assert gates.upgraded == []
    assert gates.bound() == {}
    assert names(host.bpffs) == {f"v{layout.VERSION}"}
    gates.close()


@upgraded
def test_gates_of_a_newer_agent_are_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    (host.bpffs / "v99").mkdir()
    with pytest.raises(KernelError, match="layout 99"):
        host.start()
    assert not host.out(UDP, udp(1, FORBIDDEN))
    assert host.talk(110, 501)
    assert (host.bpffs / "v1").exists()
