"""An agent that finds the gates of an older layout: it replaces them, and nobody notices."""

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

from serai.datapath import attach, layout, upgrade
from serai.datapath.attach import Attacher
from serai.datapath.gates import Gates
from serai.datapath.libbpf import KernelError
from serai.model.policy import Action, Clause, Direction, Group, InCidr, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.reasons import Reason
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
@EACH
def test_nothing_is_lost_and_nothing_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: int, has_tcx: bool
) -> None:
    under_load(tmp_path, monkeypatch, version=version, has_tcx=has_tcx)


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
    assert denied == flood.sent + 2 or host.version == 1, "where both gates count in the same place, it is exact"
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


STEPS: list[tuple[int, tuple[Any, str, int]]] = [
    (1, (upgrade, "_carry_tables", 1)),
    (1, (upgrade, "_carry_flows", 1)),
    (1, (upgrade, "_carry_records", 1)),
    (1, (attach.Attacher, "_adopt", 1)),
    (1, (attach.Attacher, "_adopt", 2)),
    (1, (upgrade, "_carry_flows", 2)),
    (1, (upgrade, "_remove", 1)),
    (2, (upgrade, "check", 5)),
    (2, (upgrade, "_tables_v2", 1)),
    (2, (upgrade, "_carry_tables_v2", 1)),
    (2, (attach.Attacher, "_adopt", 1)),
    (2, (attach.Attacher, "_adopt", 2)),
    (2, (upgrade, "_carry_tables_v2", 3)),
    (2, (upgrade, "_remove", 1)),
]


@pytest.mark.parametrize(
    ("version", "step"), STEPS, ids=[f"v{version}-{name}-{time}" for version, (_, name, time) in STEPS]
)
def test_cut_short_it_is_finished_by_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, step: tuple[Any, str, int]
) -> None:
    cut_short(tmp_path, monkeypatch, version=version, step=step)


@upgraded
def cut_short(host: Host, monkeypatch: pytest.MonkeyPatch, *, step: tuple[Any, str, int]) -> None:
    place, name, time = step
    calls = 0
    real = getattr(place, name)

    def dies(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        done = real(*arguments)
        if calls == time:
            raise KernelError(5, "cut short")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(place, name, dies)
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
    assert (host.bpffs / f"v{host.version}").exists()


class Stream(threading.Thread):
    """The open connection carries data from the VM, and what is lost comes again, as TCP has it."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host
        self.over = threading.Event()
        self.segments = self.repeats = 0
        self.seq = 110

    def run(self) -> None:
        data = b"x" * 400  # most of the window of 500 bytes
        while not self.over.is_set() and self.repeats < 1000:
            came = self._host.out(TCP, tcp(1000, ALLOWED, ACK, data, seq=self.seq, ack=501))
            acknowledged = came and self._host.into(TCP, tcp(ALLOWED, 1000, ACK, seq=501, ack=self.seq + len(data)))
            if acknowledged:
                self.seq += len(data)
                self.segments += 1
            else:
                self.repeats += 1


@upgraded
def test_a_stream_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    stream = Stream(host)
    stream.start()
    gates = host.start()
    then = stream.segments
    while stream.is_alive() and stream.segments < then + 20:
        stream.join(0.01)
    stream.over.set()
    stream.join()
    assert stream.segments >= then + 20, f"it stands still at {stream.seq}"
    gates.close()


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


@of_layout_2
def test_windows_are_kept(host: Host) -> None:
    gates = host.start()
    assert not host.out(TCP, tcp(1000, ALLOWED, ACK, b"x", seq=100_000, ack=501))
    assert host.talk(110, 501)
    gates.close()


@of_layout_2
def test_a_connection_whose_answer_comes_after_is_not_timed(host: Host) -> None:
    assert host.out(TCP, tcp(1001, ALLOWED, SYN, seq=100))
    gates = host.start()
    assert host.into(TCP, tcp(ALLOWED, 1001, SYN | ACK, seq=500, ack=101))
    assert host.out(TCP, tcp(1002, ALLOWED, SYN, seq=100))
    assert host.into(TCP, tcp(ALLOWED, 1002, SYN | ACK, seq=500, ack=101))
    table = gates.flows.table(host.vnic.id)
    assert table is not None
    times = {int(key["local_port"]): int(flow["rtt_us"]) for key, flow in zip(*table.dump(), strict=True)}
    assert (times[1000], times[1001]) == (0, 0)
    assert times[1002] > 0
    gates.close()


@of_layout_2
def test_records_of_denials_go_on(host: Host) -> None:
    gates = host.start()
    (row,) = gates.denials.rows(0)
    before = row.packets_out
    assert before >= 1
    assert not host.out(UDP, udp(1, FORBIDDEN))
    (row,) = gates.denials.rows(0)
    assert row.packets_out == before + 1
    gates.close()


@of_layout_2
def test_old_tables_are_let_go(host: Host) -> None:
    gates = host.start()
    flows = host.bpffs / f"v{layout.VERSION}" / "flows"
    assert names(flows) == {str(slot) for slot in gates._slots.given.values()}
    gates.close()
    again = host.start()
    assert host.talk(110, 501)
    again.close()


def test_both_layouts_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent of layout 2 that had hardly begun with the gates of layout 1."""
    beside_layout_2(tmp_path, monkeypatch, version=1)


@upgraded
def beside_layout_2(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    (host.bpffs / "v2" / "maps").mkdir(parents=True)
    gates = host.start()
    assert gates.upgraded == [host.vm.ifindex]
    check_all_is_well(host, gates)
    gates.close()
