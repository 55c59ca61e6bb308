"""Flow tables: when flows end, what is remembered of them, and how they follow their VM to another host."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import NETWORK, PASSED, PLAIN, PROGRAM, SIZES, Fate, GateUnderTest, machine
from frames import ACK, FIN, ICMP, IPV4, RST, SYN, TCP, UDP, ethernet, icmp, ipv4, tcp, udp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serai.datapath import testrun
from serai.datapath.attach import Attacher
from serai.datapath.flows import FlowTables
from serai.datapath.gates import Gates
from serai.datapath.layout import EGRESS, FLOW, FLOW_KEY, HANDSHAKE_REFUSED, HANDSHAKE_TIMED, INGRESS, VERSION
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Map
from serai.datapath.object import GateObject
from serai.datapath.slots import Slots
from serai.model.address import pack
from serai.model.flow import IdleSeconds, Outcome
from serai.model.inventory import PortSecurity, VirtualMachine, VnicId
from serai.model.policy import Action, Clause, Direction, Group, Policy, PortRange, Rule, RuleRef, Tier
from serai.model.reasons import Reason
from serai.model.ruleset import Step
from serai.model.tenancy import Mode, Scope
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

OUT, IN = Direction.EGRESS, Direction.INGRESS
SECOND = 1_000_000_000
VM, PEER, MAC, PEER_MAC = "10.0.0.1", "10.0.0.2", "52:54:00:00:00:01", "52:54:00:00:00:02"
SCOPE = Scope("/acme/shop")
ESP = 50
ONE, TWO = VnicId(1), VnicId(2)


def policy(protocol: int, port: int, direction: Direction, action: Action = Action.ACCEPT) -> Policy:
    rule = Rule(
        ref=RuleRef.of(SCOPE, f"p{protocol}-{port}-{action.lower()}", direction, "r"),
        action=action,
        clauses=(Clause(ports=(PortRange(protocol=protocol, first=port, last=port),)),),
    )
    return Policy(
        name=f"p{protocol}-{port}-{action.lower()}", scope=SCOPE, tier=Tier.TENANT, priority=500, staged=False,
        subject=Group(scope=SCOPE), rules={direction: (rule,)},
    )  # fmt: skip


def world(*policies: Policy, mode: Mode = Mode.ENFORCE, security: PortSecurity = PLAIN) -> World:
    vm: VirtualMachine = machine("vm", VM, mode=mode, security=security)
    return World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm}, policies=policies)


HTTPS_OUT, SSH_IN = policy(TCP, 443, OUT), policy(TCP, 22, IN)
EVERYTHING = (
    HTTPS_OUT, SSH_IN, policy(UDP, 53, OUT), policy(ICMP, 8 << 8, OUT),
    dataclasses.replace(policy(ESP, 0, OUT), name="esp"),
)  # fmt: skip
PATH = "/acme/shop:vm"


def out(payload: bytes, protocol: int = TCP) -> bytes:
    return ethernet(MAC, PEER_MAC, IPV4, ipv4(VM, PEER, protocol, payload))


def into(payload: bytes, protocol: int = TCP) -> bytes:
    return ethernet(PEER_MAC, MAC, IPV4, ipv4(PEER, VM, protocol, payload))


def answer(source: int, target: int) -> bytes:
    """What a listener says to the SYN that ``tcp`` makes."""
    return tcp(source, target, SYN | ACK, ack=2)


def later(source: int, target: int, flags: int = ACK, payload: bytes = b"") -> bytes:
    """What either side says next."""
    return tcp(source, target, flags, payload, seq=2, ack=2)


def vnic(gate: GateUnderTest) -> VnicId:
    return gate.world.vms[PATH].vnics[0].id


def one_flow(gate: GateUnderTest) -> tuple[np.ndarray, np.ndarray]:
    table = gate.flows.table(vnic(gate))
    assert table is not None
    keys, flows = table.dump()
    assert len(keys) == 1
    return keys, flows


def write(tables: FlowTables, owner: VnicId, keys: np.ndarray, flows: np.ndarray) -> None:
    table = tables.table(owner)
    assert table is not None
    table.update(keys, flows)


def read(tables: FlowTables, owner: VnicId) -> dict[bytes, np.void]:
    table = tables.table(owner)
    assert table is not None
    return {key.tobytes(): flow for key, flow in zip(*table.dump(), strict=True)}


def records(count: int, *, start: int = 0, protocol: int = UDP, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """Made-up flows, told apart by their local port."""
    keys, flows = np.zeros(count, FLOW_KEY), np.zeros(count, FLOW)
    for end, address in (("local", VM), ("remote", PEER)):
        keys[end] = list(pack(IPv4Address(address)))
    keys["local_port"], keys["remote_port"] = np.arange(start, start + count), 443
    keys["protocol"] = protocol
    flows["packets"], flows["step"], flows["staged_step"] = 1, Step.ACCEPT, Step.ACCEPT
    for name, value in fields.items():
        flows[name] = value
    return keys, flows


QUOTAS = {ONE: 256, TWO: 256}


def flow_tables(gate: GateUnderTest, **limits: Any) -> FlowTables:
    """As an agent makes them that starts now."""
    maps = gate.object.maps
    return FlowTables(maps["flows"], Slots(maps["slots"], maps["meters"]), **limits)


@pytest.fixture
def tables(gate: GateUnderTest) -> Iterator[FlowTables]:
    """Tables for two vNICs, and room for few memories."""
    made = flow_tables(gate, remember=100)
    made.keep(QUOTAS)
    yield made
    made.remove_others(set())


# When a flow is over


@dataclasses.dataclass(frozen=True)
class State:
    """One row of the table: how a flow came to be what it is, and how long it may then be silent."""

    says: str
    frames: tuple[tuple[Direction, bytes], ...]
    limit: IdleSeconds
    probe: tuple[Direction, bytes]
    """Passes while the flow lives, and can open none."""


TALK = ((OUT, out(tcp(1000, 443, SYN))), (IN, into(answer(443, 1000))))
DATA = (OUT, out(later(1000, 443)))
ECHO = (OUT, out(icmp(8), ICMP))
FIN_OUT, FIN_IN = (OUT, out(later(1000, 443, FIN | ACK))), (IN, into(later(443, 1000, FIN | ACK)))
STATES = [
    State("TCP, one side has spoken", TALK[:1], IdleSeconds.TCP_OPENING, TALK[1]),
    State("TCP, both sides have", TALK, IdleSeconds.TCP_ESTABLISHED, DATA),
    State("TCP after a FIN of the VM", (*TALK, FIN_OUT), IdleSeconds.TCP_HALF_CLOSED, DATA),
    State("TCP after a FIN of the peer", (*TALK, FIN_IN), IdleSeconds.TCP_HALF_CLOSED, DATA),
    State("TCP after a FIN of both", (*TALK, FIN_IN, FIN_OUT), IdleSeconds.TCP_CLOSING, DATA),
    State("TCP after a reset", (*TALK, (IN, into(later(443, 1000, RST)))), IdleSeconds.TCP_CLOSING, DATA),
    State("TCP refused at once", (TALK[0], (IN, into(tcp(443, 1000, RST | ACK, seq=0, ack=2)))), IdleSeconds.TCP_CLOSING,
          (OUT, out(later(1000, 443, RST)))),
    State("UDP, one side has spoken", ((OUT, out(udp(1000, 53), UDP)),), IdleSeconds.OTHER, (IN, into(udp(53, 1000), UDP))),
    State("UDP, both sides have", ((OUT, out(udp(1000, 53), UDP)), (IN, into(udp(53, 1000), UDP))),
          IdleSeconds.OTHER, (IN, into(udp(53, 1000), UDP))),
    State("ICMP, unanswered", (ECHO,), IdleSeconds.ICMP, (IN, into(icmp(0), ICMP))),
    State("ICMP, answered", (ECHO, (IN, into(icmp(0), ICMP))), IdleSeconds.ICMP, (IN, into(icmp(0), ICMP))),
    State("a protocol without ports", ((OUT, out(b"esp-data", ESP)),), IdleSeconds.OTHER, (IN, into(b"esp-data", ESP))),
]  # fmt: skip


@pytest.fixture
def talking(gate: GateUnderTest) -> GateUnderTest:
    gate.guard(world(*EVERYTHING), PATH)
    return gate


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.says)
def test_sweep_removes_a_flow_at_its_limit_and_not_before(talking: GateUnderTest, state: State) -> None:
    for direction, frame in state.frames:
        assert talking.send(direction, frame).passed
    _, flows = one_flow(talking)
    last = int(flows["last_ns"][0])
    assert talking.flows.sweep(last + state.limit * SECOND - 1) == 0
    one_flow(talking)
    assert talking.flows.sweep(last + state.limit * SECOND) == 1
    assert talking.flows.count() == 0
    assert len(talking.rows()) == 1, "it is remembered"


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.says)
def test_the_gate_and_the_sweep_end_a_flow_at_the_same_age(talking: GateUnderTest, state: State) -> None:
    """Some way off the limit on either side: time passes, and the gate's clock is a coarse one."""
    for margin, lives in ((-5 * SECOND, True), (SECOND, False)):
        talking.forget_flows()
        for direction, frame in state.frames:
            assert talking.send(direction, frame).passed
        keys, flows = one_flow(talking)
        now = time.monotonic_ns()
        last = now - (state.limit * SECOND + margin)
        if last < 0 and not lives:
            pytest.skip("this machine has not been up for as long as such a flow may be silent")
        flows["last_ns"] = max(last, 0)
        write(talking.flows, vnic(talking), keys, flows)
        assert talking.send(*state.probe).passed == lives
        write(talking.flows, vnic(talking), keys, flows)
        assert talking.flows.sweep(now) == (0 if lives else 1)


def test_a_flow_from_the_future_is_not_over(tables: FlowTables) -> None:
    """The gate's clock and the agent's are read at different times."""
    write(tables, ONE, *records(3, last_ns=10 * SECOND))
    assert tables.sweep(9 * SECOND) == 0


# What is remembered


def test_ended_flows_are_rows_until_they_are_forgotten(tables: FlowTables) -> None:
    write(tables, ONE, *records(40, bytes=[100, 200]))
    write(tables, TWO, *records(50))
    assert tables.sweep(10**13) == 90
    assert (tables.count(), tables.forgotten) == (0, 0)
    assert sorted(row.vnic for row in tables.rows(0)) == [ONE] * 40 + [TWO] * 50
    (row, *_) = (row for row in tables.rows(0) if row.vnic == ONE)
    assert (row.bytes_out, row.bytes_in, row.outcome, row.direction) == (100, 200, Outcome.ACCEPTED, OUT)


def test_memories_are_bounded_and_what_goes_is_counted(tables: FlowTables) -> None:
    ended = 0
    for batch in range(30):
        write(tables, ONE, *records(17, start=batch * 17))
        ended += tables.sweep(10**13)
        rows = list(tables.rows(0))
        assert len(rows) <= 100
        assert len(rows) + tables.forgotten == ended, "each is remembered or counted as forgotten"
    assert ended == 30 * 17


def test_flows_of_a_vnic_that_leaves_have_ended(tables: FlowTables) -> None:
    write(tables, ONE, *records(5))
    write(tables, TWO, *records(7))
    tables.remove_others({TWO})
    assert tables.table(ONE) is None
    assert tables.count() == 7
    assert sorted(row.vnic for row in tables.rows(0)) == [ONE] * 5 + [TWO] * 7
    tables.keep(QUOTAS)
    assert read(tables, ONE) == {}, "it starts anew when it comes back"


def test_flows_that_moved_to_another_host_have_not_ended(tables: FlowTables) -> None:
    write(tables, ONE, *records(5))
    tables.export(ONE, 1)
    tables.hand_over(ONE)
    tables.remove_others({TWO})
    assert list(tables.rows(0)) == []


def test_ended_flows_outlive_the_agent(gate: GateUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "state" / "ended"

    def agent() -> FlowTables:
        made = flow_tables(gate, remember=100, ended=file)
        made.adopt()
        made.keep({ONE: 256})
        return made

    ended = 0
    for batch in range(12):
        tables = agent()
        assert len(list(tables.rows(0))) == min(ended, 100)
        assert file.stat().st_size % (8 + FLOW_KEY.itemsize + FLOW.itemsize) == 0 if ended else not file.exists()
        write(tables, ONE, *records(19, start=batch * 19))
        ended += tables.sweep(10**13)
        if batch % 3 == 0:
            with file.open("ab") as cut:  # killed amid a record
                cut.write(b"half of one")
    kept = [row.port for row in agent().rows(0)]
    assert (ended, len(kept)) == (12 * 19, 100)
    agent().remove_others(set())


def test_the_file_of_ended_flows_is_bounded(tables: FlowTables, gate: GateUnderTest, tmp_path: Path) -> None:
    kept = flow_tables(gate, remember=50, ended=tmp_path / "ended")
    kept.adopt()
    record = 8 + FLOW_KEY.itemsize + FLOW.itemsize
    for batch in range(40):
        write(tables, ONE, *records(20, start=batch * 20))
        kept.sweep(10**13)
        assert (tmp_path / "ended").stat().st_size <= (3 * 50 + 20) * record
    assert len(list(kept.rows(0))) == 50


def test_an_agent_adopts_the_tables_of_the_one_before(tables: FlowTables, gate: GateUnderTest) -> None:
    write(tables, ONE, *records(5))
    later = flow_tables(gate)
    later.adopt()
    assert later.count() == 5
    later.keep(QUOTAS)
    assert read(later, ONE).keys() == read(tables, ONE).keys(), "adopted, not replaced"


def test_a_full_table_refuses_new_flows_of_its_vnic(talking: GateUnderTest) -> None:
    for number in range(64):  # the quota of the gate under test
        assert talking.send(OUT, out(udp(2000 + number, 53), UDP)).passed
    assert talking.send(OUT, out(udp(1999, 53), UDP)) == Fate(passed=False, reason=Reason.FLOW_QUOTA)
    assert talking.send(OUT, out(udp(2000, 53), UDP)).passed, "those that are in go on"


def test_counters_never_go_back(talking: GateUnderTest) -> None:
    before = (0, 0, 0, 0)
    frames = [*TALK, DATA, (IN, into(later(443, 1000, payload=b"hello"))), (OUT, out(tcp(1001, 443, ACK))), DATA]
    for direction, frame in frames * 3:
        talking.send(direction, frame)
        (row,) = talking.rows()
        now = (row.packets_out, row.packets_in, row.bytes_out, row.bytes_in)
        assert all(a >= b for a, b in zip(now, before, strict=True))
        before = now
    assert before == (3 * 3, 2 * 3, 3 * 3 * 54, 3 * (54 + 59))


def test_a_flow_that_begins_anew_amid_the_sweep_lives(tables: FlowTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the sweep's look at a table and its hand on it, ports may begin another connection."""
    write(tables, ONE, *records(3))
    take = Map.take
    now = 10**13

    def late(table: Map, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table.update(*records(1, start=1, last_ns=now, packets=7))
        return take(table, keys)

    monkeypatch.setattr(Map, "take", late)
    assert tables.sweep(now) == 2
    (flow,) = read(tables, ONE).values()
    assert (int(flow["last_ns"]), flow["packets"].tolist()) == (now, [7, 7])


# Other limits


def test_a_host_may_have_limits_of_its_own(gate: GateUnderTest) -> None:
    tables = flow_tables(gate, idle={"OTHER": 5, "ICMP": 700})
    tables.keep(QUOTAS)
    write(tables, ONE, *records(1))
    write(tables, TWO, *records(1, protocol=ICMP))
    assert tables.sweep(5 * SECOND - 1) == 0
    assert tables.sweep(5 * SECOND) == 1
    assert tables.sweep(700 * SECOND - 1) == 0
    assert tables.sweep(700 * SECOND) == 1


def test_the_gate_goes_by_the_hosts_limits(elsewhere: GateUnderTest) -> None:
    gates = Gates(elsewhere.object, Attacher(Path("/nonexistent"), {}), idle={"TCP_ESTABLISHED": 5})
    elsewhere.gates, elsewhere.flows = gates, gates.flows
    ruleset = compile_host(world(HTTPS_OUT), "host", [PATH])
    gates.prepare(ruleset)
    gates.bind({testrun.LOOPBACK: ruleset.vnics[0]})
    for silent, lives in ((3, True), (6, False)):
        for direction, frame in TALK:
            assert elsewhere.send(direction, frame).passed
        table = gates.flows.table(ruleset.vnics[0].id)
        assert table is not None
        keys, flows = table.dump()
        flows["last_ns"] = time.monotonic_ns() - silent * SECOND
        table.update(keys, flows)
        result, _ = testrun.run(elsewhere.object.programs[PROGRAM[DATA[0]]], DATA[1])
        assert (result == PASSED) == lives
        table.delete(keys)


def test_a_quota_that_changes_keeps_the_flows(tables: FlowTables) -> None:
    write(tables, ONE, *records(100, packets=3))
    before, other = read(tables, ONE), tables.table(TWO)
    for quota in (512, 100, 101, 256):
        tables.keep({ONE: quota, TWO: 256})
        table = tables.table(ONE)
        assert table is not None
        assert table.capacity == quota
        assert {k: f.tobytes() for k, f in read(tables, ONE).items()} == {k: f.tobytes() for k, f in before.items()}
        assert tables.table(TWO) is other, "nobody else's is touched"
    later = flow_tables_of(tables)
    assert read(later, ONE).keys() == before.keys(), "it is the table that gates use"


def flow_tables_of(tables: FlowTables) -> FlowTables:
    """As the next agent finds them."""
    found = FlowTables(tables._outer, tables._slots)
    found.adopt()
    return found


def test_connections_go_on_when_the_quota_changes(gate: GateUnderTest) -> None:
    for quota in (50, 500, 7):
        gate.guard(world(*EVERYTHING, security=PortSecurity(max_flows=quota)), PATH)
        if quota == 50:
            for direction, frame in TALK:
                assert gate.send(direction, frame).passed
        assert gate.send(*DATA).passed
    (row,) = gate.rows()
    assert (row.packets_out, row.packets_in) == (4, 1)
    assert gate.flows.count() == 1
    for port in range(20):
        gate.send(OUT, out(udp(2000 + port, 53), UDP))
    assert gate.flows.count() <= 8, "seven, and the kernel may let one more in"


class Busy:
    """The map of maps, with a gate that goes on counting while tables are exchanged."""

    def __init__(self, outer: Map, table: Map, *seen: tuple[np.ndarray, np.ndarray]) -> None:
        self.key, self.value = outer.key, outer.value
        self._outer, self._table, self._seen = outer, table, seen

    def update(self, keys: np.ndarray, values: np.ndarray) -> None:
        for flows in self._seen:
            self._table.update(*flows)
        self._outer.update(keys, values)


def test_nothing_that_happens_meanwhile_is_lost(tables: FlowTables, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tables, ONE, *records(10, last_ns=100, packets=1))
    table = tables.table(ONE)
    assert table is not None
    went_on, opened = records(1, start=4, last_ns=200, packets=9), records(2, start=50, last_ns=200, packets=2)
    monkeypatch.setattr(tables, "_outer", Busy(tables._outer, table, went_on, opened))
    tables.keep({ONE: 300, TWO: 256})
    packets = sorted(int(flow["packets"][0]) for flow in read(tables, ONE).values())
    assert packets == [1] * 9 + [2, 2, 9]


def test_flows_beyond_a_smaller_quota_end(tables: FlowTables) -> None:
    write(tables, ONE, *records(100))
    tables.keep({ONE: 10, TWO: 256})
    assert tables.count() == 10


def test_flows_beyond_a_smaller_quota_are_remembered(tables: FlowTables) -> None:
    write(tables, ONE, *records(100))
    tables.keep({ONE: 10, TWO: 256})
    assert len(list(tables.rows(0))) + tables.forgotten == 100, "each is remembered or counted as forgotten"


def test_too_many_vnics_change_nothing(tables: FlowTables) -> None:
    write(tables, ONE, *records(5))
    with pytest.raises(KernelError, match="too many"):
        tables.keep(QUOTAS | {VnicId(n): 16 for n in range(100, 200)})
    assert tables.count() == 5
    assert tables.table(VnicId(100)) is None


# From host to host


def test_a_handoff_keeps_everything_but_the_clock_and_the_verdict(tables: FlowTables) -> None:
    keys, flows = records(
        9, first_ns=400 * SECOND, last_ns=900 * SECOND, packets=[5, 6], bytes=[7, 8], judged_by=77, identity=88,
        rule=99, staged_rule=100, origin=INGRESS, tcp_flags=[SYN, ACK], protocol=TCP, rtt_us=250, syn_repeats=3,
        handshake=HANDSHAKE_REFUSED,
    )  # fmt: skip
    write(tables, ONE, keys, flows)
    raw = tables.export(ONE, 1000 * SECOND)
    assert tables.take(retold(raw, vnic=TWO), 5000 * SECOND) == 9
    expected = flows.copy()
    expected["first_ns"], expected["last_ns"] = 4400 * SECOND, 4900 * SECOND
    expected["judged_by"] = 0
    assert {k: f.tobytes() for k, f in read(tables, TWO).items()} == {
        k.tobytes(): f.tobytes() for k, f in zip(keys, expected, strict=True)
    }


def test_an_answer_on_another_host_is_not_timed(tables: FlowTables) -> None:
    write(tables, ONE, *records(1, protocol=TCP, handshake=HANDSHAKE_TIMED | HANDSHAKE_REFUSED))
    assert tables.take(retold(tables.export(ONE, 5), vnic=TWO), 5) == 1
    (flow,) = read(tables, TWO).values()
    assert flow["handshake"] == HANDSHAKE_REFUSED


def test_of_the_same_tick_the_one_with_more_packets_is_later(tables: FlowTables) -> None:
    """The gate counts ticks, of which one sees many packets of a fast stream."""
    for packets, added, stands in (([5, 5], 1, [5, 5]), ([5, 6], 1, [5, 6]), ([6, 4], 0, [5, 6]), ([5, 6], 0, [5, 6])):
        assert tables.add_newer(TWO, *records(1, last_ns=100, packets=packets)) == added
        (flow,) = read(tables, TWO).values()
        assert flow["packets"].tolist() == stands
    assert tables.add_newer(TWO, *records(1, last_ns=99, packets=[50, 50])) == 0
    assert tables.add_newer(TWO, *records(1, last_ns=101, packets=[1, 1])) == 1


def test_a_host_that_started_after_the_flow_did_counts_from_its_start(tables: FlowTables) -> None:
    write(tables, ONE, *records(1, first_ns=100 * SECOND, last_ns=900 * SECOND))
    assert tables.take(retold(tables.export(ONE, 1000 * SECOND), vnic=TWO), 150 * SECOND) == 1
    (flow,) = read(tables, TWO).values()
    assert (int(flow["first_ns"]), int(flow["last_ns"])) == (0, 50 * SECOND)


def test_export_since_leaves_out_what_was_silent(tables: FlowTables) -> None:
    for number, seen in enumerate((10, 20, 30)):
        write(tables, ONE, *records(1, start=number, last_ns=seen))
    assert [tables.take(retold(tables.export(ONE, 40, since_ns=since), vnic=TWO), 10**6) for since in (31, 30, 0)] == [
        0, 1, 2,
    ]  # fmt: skip  # the third time one of the three is known


def test_a_flow_seen_here_since_is_left_alone(tables: FlowTables) -> None:
    write(tables, ONE, *records(2, last_ns=100, packets=[1, 1]))
    raw = retold(tables.export(ONE, 100), vnic=TWO)
    keys, mine = records(1, last_ns=1001, packets=[50, 50], judged_by=5)
    write(tables, TWO, keys, mine)
    assert tables.take(raw, 1000) == 1
    assert read(tables, TWO)[keys[0].tobytes()].tobytes() == mine[0].tobytes()
    mine["last_ns"] = 999  # not heard of since: the other host's word is newer
    write(tables, TWO, keys, mine)
    assert tables.take(raw, 1000) == 1
    assert read(tables, TWO)[keys[0].tobytes()]["packets"].tolist() == [1, 1]


places = st.dictionaries(st.integers(0, 40), st.integers(1, 5), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(theirs=places, mine=places)
def test_of_each_flow_the_host_that_saw_it_last_is_right(
    tables: FlowTables, theirs: Mapping[int, int], mine: Mapping[int, int]
) -> None:
    """By local port: when each host has last seen the flow."""
    for owner, seen, packets in ((ONE, theirs, 10), (TWO, mine, 20)):
        table = tables.table(owner)
        assert table is not None
        table.delete(table.dump()[0])
        for port, last in seen.items():
            table.update(*records(1, start=port, last_ns=last, packets=packets))
    fresher = {port for port, last in theirs.items() if last > mine.get(port, 0)}
    assert tables.take(retold(tables.export(ONE, 5), vnic=TWO), 5) == len(fresher)
    found = {
        int(np.frombuffer(key, FLOW_KEY)["local_port"][0]): int(flow["packets"][0])
        for key, flow in read(tables, TWO).items()
    }
    assert found == dict.fromkeys(mine, 20) | dict.fromkeys(fresher, 10)


def test_taking_the_same_handoff_again_changes_nothing(tables: FlowTables) -> None:
    write(tables, ONE, *records(4, last_ns=100))
    raw = retold(tables.export(ONE, 100), vnic=TWO)
    assert tables.take(raw, 1000) == 4
    before = {k: f.tobytes() for k, f in read(tables, TWO).items()}
    assert tables.take(raw, 1000) == 0
    assert {k: f.tobytes() for k, f in read(tables, TWO).items()} == before


@pytest.mark.parametrize("back", [2000, 1_000_000])
def test_numbers_do_not_go_back_to_those_of_a_slow_handoff(tables: FlowTables, back: int) -> None:
    """It was on its way while the VM went on here, and seems younger than it is."""
    now = {"end": [back - 500, 900_000], "limit": [back, 1_000_000], "window": [1000, 1000]}
    then = {"end": [0xFFFFFFF0, 900_000], "limit": [500, 1_000_000], "window": [1000, 1000]}
    for first_ns, expected in ((100, now), (100 + 5 * SECOND, then)):  # the other is a connection of its own
        write(tables, ONE, *records(1, protocol=TCP, first_ns=100, last_ns=6 * SECOND, **then))
        raw = retold(tables.export(ONE, 6 * SECOND), vnic=TWO)
        write(tables, TWO, *records(1, protocol=TCP, first_ns=first_ns, last_ns=6 * SECOND, **now))
        assert tables.take(raw, 6 * SECOND + 50) == 1
        (flow,) = read(tables, TWO).values()
        assert {field: flow[field].tolist() for field in expected} == expected


def retold(raw: bytes, **changes: Any) -> bytes:
    """The handoff with some of its fields changed."""
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(raw), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": VERSION + 1},
        {"keys": bytes(FLOW_KEY.itemsize - 1)}, {"flows": bytes(FLOW.itemsize - 1)},
        {"keys": bytes(2 * FLOW_KEY.itemsize), "flows": bytes(FLOW.itemsize)}, {"vnic": "1"}, {"now_ns": None},
        {"flows": records(1, origin=2)[1].tobytes()}, {"more": 1}, {"keys": "text"},
    ],
    ids=["layout", "keys cut", "flows cut", "keys without flows", "vnic is text", "no time", "third direction", "too much", "text"],
)  # fmt: skip
def test_a_handoff_that_makes_no_sense_is_refused(tables: FlowTables, changes: Mapping[str, Any]) -> None:
    write(tables, ONE, *records(1))
    raw = tables.export(ONE, 1)
    before = {k: f.tobytes() for k, f in read(tables, ONE).items()}
    with pytest.raises(ValueError, match="handoff"):
        tables.take(retold(raw, **changes), 2)
    assert {k: f.tobytes() for k, f in read(tables, ONE).items()} == before


@pytest.mark.parametrize("now_ns", [2**63, 2**64 - 1])
def test_a_handoff_from_beyond_all_time_is_refused(tables: FlowTables, now_ns: int) -> None:
    write(tables, ONE, *records(1, last_ns=2**62))
    with pytest.raises(ValueError, match="handoff"):
        tables.take(retold(tables.export(ONE, 1), now_ns=now_ns), 2)


def test_flows_of_an_unknown_vnic_are_refused(tables: FlowTables) -> None:
    with pytest.raises(KeyError):
        tables.export(VnicId(3), 1)
    with pytest.raises(KeyError):
        tables.take(retold(tables.export(ONE, 1), vnic=3), 1)


@settings(deadline=None)
@given(raw=st.binary(max_size=60))
def test_no_bytes_but_a_handoff_are_taken(loaded_gate: GateObject, raw: bytes) -> None:
    maps = loaded_gate.maps
    with pytest.raises(ValueError, match="handoff"):
        FlowTables(maps["flows"], Slots(maps["slots"], maps["meters"])).take(raw, 1)


@pytest.fixture
def elsewhere() -> Iterator[GateUnderTest]:
    """The gate of another host."""
    loaded = GateObject.load(None, sizes=SIZES)
    made = GateUnderTest(loaded)
    yield made
    made.clear()
    loaded.close()


def _established(gate: GateUnderTest) -> bytes:
    gate.guard(world(HTTPS_OUT, SSH_IN), PATH)
    for direction, frame in (*TALK, DATA):
        assert gate.send(direction, frame).passed
    for direction, frame in ((IN, into(tcp(5000, 22, SYN))), (OUT, out(answer(22, 5000)))):
        assert gate.send(direction, frame).passed
    return gate.flows.export(vnic(gate), time.monotonic_ns())


MIDSTREAM = [
    DATA, (IN, into(later(443, 1000))), (IN, into(later(5000, 22))), (OUT, out(later(22, 5000))),
]  # fmt: skip


def test_connections_go_on_where_policy_accepts_them(gate: GateUnderTest, elsewhere: GateUnderTest) -> None:
    raw = _established(gate)
    elsewhere.guard(world(HTTPS_OUT, SSH_IN), PATH)
    for direction, frame in MIDSTREAM:
        assert elsewhere.send(direction, frame).reason is Reason.NO_FLOW, "nobody knows them there yet"
    assert elsewhere.flows.take(raw, time.monotonic_ns()) == 2
    for direction, frame in MIDSTREAM:
        assert elsewhere.send(direction, frame) == Fate(passed=True, reason=Reason.NONE)
    assert sorted((r.direction, r.port, r.packets_out, r.packets_in) for r in elsewhere.rows()) == [
        (OUT, 443, 3, 2), (IN, 22, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("denied", [OUT, IN])
def test_connections_end_where_policy_denies_them(
    gate: GateUnderTest, elsewhere: GateUnderTest, denied: Direction
) -> None:
    raw = _established(gate)
    kept = SSH_IN if denied is OUT else HTTPS_OUT
    closing = policy(TCP, 1, denied)  # selects the VM in this direction, and lets nothing of ours through
    elsewhere.guard(world(kept, closing), PATH)
    assert elsewhere.flows.take(raw, time.monotonic_ns()) == 2
    ours, theirs = (MIDSTREAM[:2], MIDSTREAM[2:]) if denied is OUT else (MIDSTREAM[2:], MIDSTREAM[:2])
    assert elsewhere.send(*ours[0]) == Fate(passed=False, reason=Reason.DENIED)
    for direction, frame in ours:
        assert elsewhere.send(direction, frame) == Fate(passed=False, reason=Reason.NO_FLOW), "and it is gone"
    for direction, frame in theirs:
        assert elsewhere.send(direction, frame).passed, "the other one is none of its business"


def test_a_flow_judged_here_is_not_asked_about_again(gate: GateUnderTest, elsewhere: GateUnderTest) -> None:
    raw = _established(gate)
    elsewhere.guard(world(HTTPS_OUT, SSH_IN), PATH)
    elsewhere.flows.take(raw, time.monotonic_ns())
    assert elsewhere.send(*DATA).passed
    judged = {int(flow["judged_by"]) for flow in read(elsewhere.flows, vnic(elsewhere)).values()}
    assert 0 in judged, "the one that has not spoken"
    assert len(judged) == 2
    assert {int(flow["origin"]) for flow in read(elsewhere.flows, vnic(elsewhere)).values()} == {EGRESS, INGRESS}
