"""Whom gates are told to guard: records that nobody writes while they are read, and pointers that move between them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from cases import OUT, V4, VM
from conftest import NETWORK, SIZES, GateUnderTest, machine
from frames import SYN, TCP, tcp
from namespaces import ip, isolated

from serai.datapath.layout import TAPS, VNIC
from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Array, Map
from serai.datapath.object import GateObject
from serai.datapath.vnics import Records
from serai.model.reasons import Reason
from serai.model.world import World
from serai.policy.compile import compile_host

pytestmark = pytest.mark.kernel

ROOM = 8
"""Records, nobody's among them."""
REST_SECONDS = 0.1


@pytest.fixture(scope="module")
def loaded() -> Iterator[GateObject]:
    made = GateObject.load(None, sizes={**SIZES, "vnics": ROOM, "far_taps": 4})
    yield made
    made.close()


@pytest.fixture
def maps(loaded: GateObject) -> Iterator[Mapping[str, Map]]:
    yield loaded.maps
    for name in ("taps", "vnics"):
        keys, values = loaded.maps[name].dump()
        loaded.maps[name].update(keys, np.zeros_like(values))
    loaded.maps["far_taps"].delete(loaded.maps["far_taps"].dump()[0])


def record(ifindex: int, vnic: int) -> Array:
    made = np.zeros(1, VNIC)
    made["ifindex"], made["id"] = ifindex, vnic
    return made


def write(records: Records, vnics: Mapping[int, int]) -> None:
    records.write({ifindex: record(ifindex, vnic) for ifindex, vnic in vnics.items()})


def pointer(maps: Mapping[str, Map], ifindex: int) -> int:
    """Where the gate on this tap finds its record, as ``find_vnic`` of bpf/gate.bpf.c looks for it; 0: nowhere."""
    places = (maps["taps"].get(ifindex % TAPS), maps["far_taps"].get(ifindex))
    for place in places:
        if place is not None:
            found = maps["vnics"].get(place[0])
            if found is not None and found["ifindex"][0] == ifindex:
                return int(place[0])
    return 0


def guards(maps: Mapping[str, Map], *taps: int) -> list[int]:
    """The vNIC that the gate on each of these taps reads; 0: it is closed."""
    found = [maps["vnics"].get(pointer(maps, ifindex)) for ifindex in taps]
    return [0 if vnic is None else int(vnic["id"][0]) for vnic in found]


def bound(records: Records) -> dict[int, int]:
    return {ifindex: int(found["id"][0]) for ifindex, found in records}


def test_a_change_is_another_record(maps: Mapping[str, Map]) -> None:
    records = Records(maps)
    assert guards(maps, 5) == [0]
    write(records, {5: 50, 6: 60})
    before = pointer(maps, 5)
    write(records, {5: 51})
    assert guards(maps, 5, 6) == [51, 60]
    assert pointer(maps, 5) != before
    old = maps["vnics"].get(before)
    assert old is not None
    assert old.tobytes() == record(5, 50).tobytes(), "a packet may still be reading it"
    assert bound(records) == {5: 51, 6: 60}


def test_a_closed_gate_reads_nothing(maps: Mapping[str, Map]) -> None:
    records = Records(maps)
    write(records, {5: 50, 6: 60})
    records.remove(5)
    records.remove(5)
    records.remove(7)
    assert guards(maps, 5, 6) == [0, 60]
    assert bound(records) == {6: 60}
    write(records, {5: 52})
    assert guards(maps, 5, 6) == [52, 60]


NEAR, FAR, FARTHER = 7, 7 + TAPS, 7 + 2 * TAPS


@pytest.mark.parametrize("order", [(NEAR, FAR, FARTHER), (FAR, NEAR, FARTHER), (FARTHER, FAR, NEAR)], ids=str)
def test_numbers_that_meet_in_one_place(maps: Mapping[str, Map], order: tuple[int, int, int]) -> None:
    records = Records(maps)
    for ifindex in order:
        write(records, {ifindex: ifindex})
    assert guards(maps, *order) == list(order)
    write(records, dict.fromkeys(order, 9))
    assert guards(maps, *order) == [9, 9, 9]
    first, second, third = order
    records.remove(second)
    assert guards(maps, first, second, third) == [9, 0, 9]
    records.remove(first)
    assert guards(maps, first, second, third) == [0, 0, 9]
    assert bound(records) == bound(Records(maps)) == {third: 9}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_place_that_became_free_is_taken_without_a_trace(maps: Mapping[str, Map], *, restarted: bool) -> None:
    """The later of two gates has the place to itself, and a new record: nothing may lead to the old one."""
    records = Records(maps)
    write(records, {NEAR: 1})
    write(records, {FAR: 2})
    records.remove(NEAR)
    write(records, {FAR: 3})
    if restarted:
        records = Records(maps)
    assert guards(maps, FAR) == [3]
    assert bound(records) == {FAR: 3}
    write(records, {NEAR: 4})
    assert guards(maps, NEAR, FAR) == [4, 3]
    records.remove(FAR)
    assert guards(maps, NEAR, FAR) == [4, 0], "closed is closed"
    records.remove(NEAR)
    assert guards(maps, NEAR, FAR) == [0, 0]
    assert len(maps["far_taps"].dump()[0]) == 0


def test_a_new_agent_finds_what_gates_read(maps: Mapping[str, Map]) -> None:
    write(Records(maps), {5: 50, NEAR: 70, FAR: 71, TAPS: 80})
    records = Records(maps)
    assert bound(records) == {5: 50, NEAR: 70, FAR: 71, TAPS: 80}
    write(records, {6: 60, FAR: 72})
    assert guards(maps, 5, 6, NEAR, FAR, TAPS) == [50, 60, 70, 72, 80], "it writes over none of them"
    assert bound(Records(maps)) == bound(records)


def test_an_agent_that_died_between_two_places_leaves_no_trace(maps: Mapping[str, Map]) -> None:
    records = Records(maps)
    write(records, {NEAR: 1})
    write(records, {FAR: 2})
    far = maps["far_taps"].dump()
    records.remove(NEAR)
    write(records, {FAR: 3})
    maps["far_taps"].update(*far)  # what it had not come to
    records = Records(maps)
    assert guards(maps, FAR) == [3]
    assert bound(records) == {FAR: 3}
    records.remove(FAR)
    assert guards(maps, FAR) == [0]


def test_a_record_rests_before_it_is_written_again(maps: Mapping[str, Map]) -> None:
    records = Records(maps)
    left: dict[int, float] = {}
    reused = 0
    for vnic in range(1, 41):
        before = pointer(maps, 5)
        write(records, {5: vnic})
        now, place = time.monotonic(), pointer(maps, 5)
        if place in left:
            reused += 1
            assert now - left[place] >= REST_SECONDS
        left[before] = now
        assert guards(maps, 5) == [vnic]
    assert reused > 30


def test_too_many_gates_change_nothing(maps: Mapping[str, Map]) -> None:
    records = Records(maps)
    taps = dict(zip(range(10, 9 + ROOM), range(1, ROOM), strict=True))
    write(records, taps)
    for refused in ({10: 99}, {20: 99}):
        with pytest.raises(KernelError, match="this host has room for 7") as refusal:
            write(records, refused)
        assert refusal.value.errno == errno.ENOSPC
        assert guards(maps, *taps, 20) == [*taps.values(), 0]
        assert bound(records) == taps
    records.remove(11)
    write(records, {20: 99})
    assert guards(maps, *taps, 20) == [1, 0, *range(3, ROOM), 99]


@isolated
def test_the_gate_tells_colliding_taps_apart(gate: GateUnderTest) -> None:
    """On interfaces of these very numbers."""
    ip("link", "add", "near0", "index", 777, "type", "bridge")
    ip("link", "add", "far0", "index", 777 + TAPS, "type", "bridge")
    near, far = (socket.if_nametoindex(name) for name in ("near0", "far0"))
    assert far - near == TAPS
    vms = machine("vm", VM, role="vm"), machine("far", "10.0.0.5", role="vm"), machine("none", "10.0.0.6", role="vm")
    world = World(networks={NETWORK.path: NETWORK}, vms={vm.path: vm for vm in vms})
    ruleset = compile_host(world, "host", [vm.path for vm in vms])
    gate.world = world
    gate.gates.prepare(ruleset)
    one, other = (next(v for v in ruleset.vnics if v.path.startswith(f"/acme/shop:{name}/")) for name in ("vm", "far"))
    frame = V4.out(TCP, tcp(1, 443, SYN))
    assert gate.send(OUT, frame, ifindex=far).reason is Reason.UNKNOWN_VNIC
    gate.gates.bind({near: one})
    assert gate.send(OUT, frame, ifindex=near).passed
    assert gate.send(OUT, frame, ifindex=far).reason is Reason.UNKNOWN_VNIC, "its neighbor's record is not its own"
    gate.gates.bind({far: other})
    assert gate.send(OUT, frame, ifindex=near).passed
    assert gate.send(OUT, frame, ifindex=far).reason is Reason.FOREIGN_MAC, "it guards another"
    gate.gates.unbind(near)
    assert gate.send(OUT, frame, ifindex=near).reason is Reason.UNKNOWN_VNIC
    assert gate.send(OUT, frame, ifindex=far).reason is Reason.FOREIGN_MAC
    gate.gates.bind({far: one})
    gate.gates.unbind(far)
    assert gate.send(OUT, frame, ifindex=far).reason is Reason.UNKNOWN_VNIC, "closed is closed"
