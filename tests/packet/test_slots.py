"""Slots: small numbers for vNICs, which outlive the agent and rest before they serve another vNIC."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from conftest import SIZES

from serai.datapath.libbpf import KernelError
from serai.datapath.maps import Map
from serai.datapath.object import GateObject
from serai.datapath.slots import UNKNOWN, Slots
from serai.model.inventory import VnicId

pytestmark = pytest.mark.kernel

ROOM = 6
"""Slots, the unknown one among them."""
A, B, C, D, E, F = (VnicId(n << 60 | n) for n in range(1, 7))


@pytest.fixture(scope="module")
def loaded() -> Iterator[GateObject]:
    made = GateObject.load(None, sizes={**SIZES, "meters": ROOM, "slots": ROOM})
    yield made
    made.close()


@pytest.fixture
def maps(loaded: GateObject) -> Iterator[Mapping[str, Map]]:
    yield loaded.maps
    slots, meters = loaded.maps["slots"], loaded.maps["meters"]
    slots.delete(slots.dump()[0])
    meters.update(np.arange(ROOM, dtype=meters.key), np.zeros(ROOM, meters.value))


def agent(maps: Mapping[str, Map]) -> Slots:
    """As one that starts now sees them."""
    return Slots(maps["slots"], maps["meters"])


def kept(maps: Mapping[str, Map]) -> dict[int, int]:
    """What the kernel keeps."""
    return dict(zip(*(numbers.tolist() for numbers in maps["slots"].dump()), strict=True))


def count(maps: Mapping[str, Map], slot: int, packets: int) -> None:
    """As the gate counts a drop."""
    meter = np.zeros(1, maps["meters"].value)
    meter["drops"][0, 0, 1] = meter["lost_ends"] = packets
    maps["meters"].update(np.array([slot]), meter)


def test_each_vnic_has_its_own_and_nobody_the_unknown_one(maps: Mapping[str, Map]) -> None:
    slots = agent(maps)
    slots.give([A, B, C])
    assert slots.given == kept(maps) == {A: 1, B: 2, C: 3}
    assert UNKNOWN not in slots.given.values()
    slots.give([C, D, A])
    assert slots.given == kept(maps) == {A: 1, B: 2, C: 3, D: 4}, "who has one keeps it"
    slots.give([])


def test_what_an_agent_gave_the_next_one_finds(maps: Mapping[str, Map]) -> None:
    first = agent(maps)
    first.give([A, B, C, D])
    first.take_back(B)
    second = agent(maps)
    assert second.given == {A: 1, C: 3, D: 4}
    second.give([A, E, F])
    assert second.given == kept(maps) == {A: 1, C: 3, D: 4, E: 2, F: 5}


def test_a_slot_rests_as_long_as_possible(maps: Mapping[str, Map]) -> None:
    """A gate that is slow to hear of the change would count one vNIC's drops for another."""
    slots = agent(maps)
    slots.give([A, B])
    slots.take_back(A)
    slots.take_back(B)
    for number, vnic in enumerate((C, D, E), start=3):
        slots.give([vnic])
        assert slots.given[vnic] == number
    slots.give([B, A])
    assert (slots.given[B], slots.given[A]) == (1, 2), "the one that has rested longest comes first"


def test_too_many_change_nothing(maps: Mapping[str, Map]) -> None:
    slots = agent(maps)
    slots.give([A, B])
    with pytest.raises(KernelError, match="6 vNICs are too many: this host has room for 5") as refusal:
        slots.give([A, C, D, E, F])
    assert refusal.value.errno == errno.ENOSPC
    assert slots.given == kept(maps) == {A: 1, B: 2}
    slots.give([C, D, E])
    with pytest.raises(KernelError):
        slots.give([F])
    slots.take_back(C)
    slots.give([F])
    assert slots.given == kept(maps) == {A: 1, B: 2, F: 3, D: 4, E: 5}


def test_counters_begin_at_zero_and_go_on_under_another_agent(maps: Mapping[str, Map]) -> None:
    slots = agent(maps)
    slots.give([A, B, C, D, E])
    for slot in range(ROOM):
        count(maps, slot, 10 + slot)
    slots.take_back(C)
    slots.give([F])
    assert slots.given[F] == 3
    slots = agent(maps)
    slots.give([A, F])
    vnics, meters = slots.meters()
    counted = {
        vnic: (int(meter["drops"][0, 1]), int(meter["lost_ends"])) for vnic, meter in zip(vnics, meters, strict=True)
    }
    assert counted == {0: (10, 10), A: (11, 11), B: (12, 12), D: (14, 14), E: (15, 15), F: (0, 0)}


def test_who_has_none_gives_none_back(maps: Mapping[str, Map]) -> None:
    slots = agent(maps)
    slots.take_back(A)
    slots.give([A])
    slots.take_back(A)
    slots.take_back(A)
    slots.give([A, B, C, D, E])
    assert sorted(slots.given.values()) == [1, 2, 3, 4, 5], "none is given twice"
