"""What the meter tells of flows: what is new, once."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest

from serai.datapath import meter as meter_module
from serai.datapath import told as told_module
from serai.datapath.layout import FLOW, FLOW_KEY, HANDSHAKE_REFUSED
from serai.datapath.meter import Meter
from serai.model.address import pack
from serai.model.flow_record import Event, Verdict
from serai.model.ports import ICMP, TCP, UDP
from serai.model.reasons import Reason
from serai.model.ruleset import Step

SECOND = 1_000_000_000
NOW = 1000 * SECOND
SYN, ACK = 0x02, 0x10
VNIC = 7


@pytest.fixture(autouse=True, params=[8192, 3], ids=["at once", "in steps"])
def _steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many flows are looked at in one step, the same is told."""
    monkeypatch.setattr(meter_module, "_AT_ONCE", request.param)


def flows(count: int = 1, *, start: int = 5000, protocol: int = TCP, **fields: Any) -> tuple[Any, Any]:
    keys, made = np.zeros(count, FLOW_KEY), np.zeros(count, FLOW)
    keys["local"], keys["remote"] = list(pack(IPv4Address("10.0.0.1"))), list(pack(IPv4Address("10.0.0.2")))
    keys["local_port"], keys["remote_port"], keys["protocol"] = np.arange(start, start + count), 443, protocol
    told = {
        "first_ns": NOW - SECOND, "last_ns": NOW, "packets": (3, 2), "bytes": (300, 200), "step": Step.ACCEPT, "staged_step": Step.DENY,
        "rule": 11, "identity": 12, "tcp_flags": (SYN | ACK, SYN | ACK), **fields,
    }  # fmt: skip
    for name, value in told.items():
        made[name] = value
    return keys, made


def owner(count: int, vnic: int = VNIC) -> Any:
    return np.full(count, vnic, "<u8")


def taken(meter: Meter, now: int = NOW) -> list[dict[str, Any]]:
    pieces = meter.take(1_700_000_000, now)
    return [dict(zip(rows.dtype.names or (), row, strict=True)) for rows in pieces for row in rows.tolist()]


def one(meter: Meter, now: int = NOW) -> dict[str, Any]:
    (row,) = taken(meter, now)
    return row


def test_a_record_says_what_the_flow_does() -> None:
    meter = Meter(lambda vnic, local: np.full(len(local), 100 + vnic, "<u8"))
    meter.read(VNIC, *flows(rtt_us=77, syn_repeats=2), NOW)
    assert one(meter, NOW + 2 * SECOND) == {
        "at": 1_700_000_000, "vnic": VNIC, "event": Event.BEGINS, "direction": 0, "protocol": TCP,
        "local": pack(IPv4Address("10.0.0.1")), "remote": pack(IPv4Address("10.0.0.2")), "local_port": 5000, "remote_port": 443,
        "service": 443, "own_identity": 107, "identity": 12, "verdict": Verdict.ACCEPTED, "staged": Verdict.DENIED,
        "reason": Reason.NONE, "rule": 11, "packets_out": 3, "packets_in": 2, "bytes_out": 300, "bytes_in": 200, "connections": 1,
        "age_ms": 3000, "idle_ms": 2000, "flags_out": SYN | ACK, "flags_in": SYN | ACK, "rtt_us": 77, "syn_repeats": 2,
        "unanswered": 0, "refused": 0,
    }  # fmt: skip


def test_an_observed_flow_says_why() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(step=Step.DENY, origin=1), NOW)
    row = one(meter)
    assert (row["verdict"], row["reason"], row["direction"], row["service"]) == (
        Verdict.OBSERVED,
        Reason.DENIED,
        1,
        5000,
    )


def test_an_echo_is_known_by_its_request() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(protocol=ICMP), NOW)
    assert one(meter)["service"] == 8 << 8


def test_what_is_new_is_told_and_nothing_else() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(packets=(3, 2), rtt_us=5, syn_repeats=1), NOW)
    taken(meter)
    meter.read(VNIC, *flows(packets=(3, 2), rtt_us=5, syn_repeats=1), NOW)
    assert taken(meter) == []
    meter.read(VNIC, *flows(packets=(3, 9), bytes=(300, 900), rtt_us=5, syn_repeats=1), NOW)
    row = one(meter)
    assert (row["packets_out"], row["packets_in"], row["bytes_in"]) == (0, 7, 700)
    assert (row["event"], row["connections"], row["rtt_us"], row["syn_repeats"]) == (0, 0, 0, 0)


def test_the_next_connection_of_a_port_is_another_flow() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(packets=(3, 2)), NOW)
    taken(meter)
    meter.ended(owner(1), *flows(packets=(4, 2)), NOW)
    meter.read(VNIC, *flows(packets=(1, 0), first_ns=NOW), NOW)
    rows = taken(meter)
    assert [(row["event"], row["packets_out"]) for row in rows] == [(Event.ENDS, 1), (Event.BEGINS, 1)]


def test_a_flow_that_nobody_saw_live_is_told_whole() -> None:
    meter = Meter()
    meter.ended(owner(1), *flows(), NOW)
    row = one(meter)
    assert (row["event"], row["packets_out"], row["connections"]) == (Event.BEGINS | Event.ENDS, 3, 1)


def test_two_that_began_and_ended_in_one_tick_are_two() -> None:
    meter = Meter()
    keys, some = flows(2, packets=[(5, 0), (2, 0)])
    keys["local_port"] = 5000
    meter.read(VNIC, *flows(packets=(1, 0), bytes=(300, 200)), NOW)
    meter.ended(owner(2), keys, some, NOW)
    rows = taken(meter)
    assert sum(row["packets_out"] for row in rows) == 7
    assert sum(row["event"] & 1 for row in rows) == sum(row["event"] >> 1 for row in rows) == 2


def test_who_is_missed_twice_has_ended() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(), NOW)
    taken(meter)
    none = FLOW_KEY, FLOW
    meter.read(VNIC, *(np.empty(0, kind) for kind in none), NOW)
    assert taken(meter) == [], "its end may be on its way"
    meter.read(VNIC, *(np.empty(0, kind) for kind in none), NOW)
    row = one(meter)
    assert (row["event"], row["packets_out"], row["verdict"], row["rule"]) == (Event.ENDS, 0, Verdict.ACCEPTED, 11)
    meter.read(VNIC, *(np.empty(0, kind) for kind in none), NOW)
    assert (taken(meter), len(meter)) == ([], 0)


@pytest.mark.parametrize(
    ("fields", "age", "expected"),
    [
        ({"packets": (1, 0), "tcp_flags": (SYN, 0)}, 3, 1),
        ({"packets": (1, 0), "tcp_flags": (SYN, 0)}, 2, 0),
        ({"packets": (1, 1), "tcp_flags": (SYN, SYN | ACK)}, 3, 0),
        ({"packets": (0, 1), "tcp_flags": (0, SYN), "origin": 1}, 3, 1),
        ({"packets": (1, 0), "tcp_flags": (ACK, 0)}, 3, 0),
        ({"packets": (1, 0), "tcp_flags": (SYN, 0), "protocol": UDP}, 3, 0),
    ],
    ids=["asked in vain", "there is time", "answered", "asked of it", "no SYN", "not TCP"],
)
def test_what_is_not_answered_is_told(fields: dict[str, Any], age: int, expected: int) -> None:
    meter = Meter()
    meter.read(VNIC, *flows(**fields, first_ns=NOW - age * SECOND), NOW)
    assert one(meter)["unanswered"] == expected


def test_what_is_not_answered_is_told_once_and_at_the_latest_when_it_ends() -> None:
    silent = {"packets": (1, 0), "tcp_flags": (SYN, 0), "first_ns": NOW}
    meter = Meter()
    told = []
    for seconds in (1, 3, 5):
        meter.read(VNIC, *flows(**silent), NOW + seconds * SECOND)
        told.append([(row["unanswered"], row["packets_out"]) for row in taken(meter)])
    assert told == [[(0, 1)], [(1, 0)], []]
    meter.ended(owner(1), *flows(**silent), NOW + 60 * SECOND)
    assert one(meter)["unanswered"] == 0
    short = Meter()
    short.ended(owner(1), *flows(**silent), NOW + SECOND)
    assert one(short)["unanswered"] == 1


def test_a_refusal_is_told_once() -> None:
    meter = Meter()
    for packets, expected in ((1, 1), (2, 0)):
        meter.read(VNIC, *flows(packets=(packets, 1), handshake=HANDSHAKE_REFUSED), NOW)
        assert one(meter)["refused"] == expected


def test_what_was_before_anybody_counted_is_not_told() -> None:
    meter = Meter()
    meter.adopt(VNIC, *flows(packets=(100, 0), rtt_us=4), NOW)
    meter.read(VNIC, *flows(packets=(101, 0), rtt_us=4), NOW)
    row = one(meter)
    assert (row["packets_out"], row["event"], row["rtt_us"]) == (1, 0, 0)


def test_ages_end_where_their_column_does() -> None:
    meter = Meter()
    meter.read(VNIC, *flows(first_ns=0, last_ns=2 * NOW), NOW)
    row = one(meter, (1 << 62))
    assert row["age_ms"] == (1 << 32) - 1
    meter.read(VNIC, *flows(first_ns=5 * NOW, last_ns=5 * NOW), NOW)
    assert one(meter, NOW)["idle_ms"] == 0, "the clocks may disagree"


def test_more_than_can_be_told_now_is_told_later() -> None:
    meter = Meter(room=10)
    keys, some = flows(25)
    told = []
    for _ in range(4):
        meter.read(VNIC, keys, some, NOW)
        told.append(len(taken(meter)))
    assert told == [10, 10, 5, 0]
    assert meter.forgotten == 0


def test_more_than_can_be_remembered_is_told_at_its_end() -> None:
    meter = Meter(remember=10)
    keys, some = flows(25)
    meter.read(VNIC, keys, some, NOW)
    assert (len(taken(meter)), len(meter)) == (10, 10)
    meter.ended(owner(25), keys, some, NOW)
    rows = taken(meter)
    assert sum(row["packets_out"] for row in rows) == 15 * 3
    assert sum(row["connections"] for row in rows) == 15


def test_a_flood_costs_its_own_records() -> None:
    meter = Meter(room=100)
    meter.ended(owner(5, vnic=1), *flows(5), NOW)
    for start in range(0, 1000, 50):
        meter.ended(owner(50, vnic=2), *flows(50, start=start), NOW)
    rows = taken(meter)
    assert (len(rows), meter.forgotten) == (100, 905)
    assert sum(row["vnic"] == 1 for row in rows) == 5


def test_hashes_may_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_module, "hashes", lambda keys, _first: np.arange(len(keys), dtype="<u8") % 3 // 2)
    meter = Meter()
    for packets in (1, 2, 4):
        meter.read(VNIC, *flows(50, packets=(packets, 0)), NOW)
    meter.read(VNIC, *flows(40, packets=(4, 0)), NOW)
    assert len(meter) == 50
    assert sum(row["packets_out"] for row in taken(meter)) == 50 * 4


def test_what_is_written_down_can_be_gone_on_from() -> None:
    meter, again = Meter(), Meter()
    meter.read(VNIC, *flows(100), NOW)
    for vnic, rows in meter.written():
        again.remember(vnic, np.frombuffer(rows.tobytes(), rows.dtype))
    again.read(VNIC, *flows(100, packets=(4, 2)), NOW)
    assert [row["packets_out"] for row in taken(again)] == [1] * 100
