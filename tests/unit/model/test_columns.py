"""Columns say what the VMs say from which they were made, whichever rows are taken and whatever is put behind them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import worlds

from serai.model.address import unpack
from serai.model.columns import MODES, Columns, ranges
from serai.model.inventory import VirtualMachine
from serai.model.world import World

ANYHOW = settings(max_examples=40, deadline=None)

Row = tuple[object, ...]
"""All that columns know of a VM."""


def told(vm: VirtualMachine) -> Row:
    vnics = [(v.id, v.name, v.security, v.mac.packed, v.network, list(v.held)) for v in vm.vnics]
    return vm.path, vm.scope, dict(vm.labels), vm.mode, vnics


def read(columns: Columns) -> list[Row]:
    """Read columns row by row, in the slowest way."""
    found: list[Row] = []
    for at, path in enumerate(columns.paths):
        cards = columns.cards[columns.vm_cards[at]]
        places = range(int(columns.vm_vnics[at]), int(columns.vm_vnics[at + 1]))
        vnics = []
        for (name, security), place in zip(cards, places, strict=True):
            held = columns.addresses[columns.vnic_addresses[place] : columns.vnic_addresses[place + 1]]
            network = columns.networks[columns.vnic_network[place]]
            addresses = [unpack(raw.tobytes()) for raw in held]
            vnics.append((int(columns.ids[place]), name, security, columns.macs[place].tobytes(), network, addresses))
        labels = dict(columns.labels[columns.vm_labels[at]])
        found.append((path, columns.scopes[columns.vm_scope[at]], labels, MODES[columns.vm_mode[at]], vnics))
    return found


def require_whole(columns: Columns) -> None:
    """See whether every column is as long as it has to be."""
    vms, vnics, addresses = len(columns.paths), len(columns.ids), len(columns.addresses)
    of_vms = (columns.vm_scope, columns.vm_labels, columns.vm_mode, columns.vm_cards)
    assert {len(column) for column in of_vms} == {vms}
    assert len(columns.macs) == len(columns.vnic_network) == vnics
    for begins, rows, things in ((columns.vm_vnics, vms, vnics), (columns.vnic_addresses, vnics, addresses)):
        assert len(begins) == rows + 1
        assert (begins[0], begins[-1]) == (0, things)


def shuffled(world: World, choice: random.Random) -> list[VirtualMachine]:
    return choice.sample(list(world.vms.values()), len(world.vms))


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_they_say_what_the_vms_say_in_their_order(world: World, choice: random.Random) -> None:
    vms = shuffled(world, choice)
    columns = Columns.of(iter(vms))
    require_whole(columns)
    assert read(columns) == list(map(told, vms))


@ANYHOW
@given(worlds())
def test_what_rows_share_stands_once(world: World) -> None:
    columns = Columns.of(world.vms.values())
    for shared in (columns.scopes, columns.cards, [n.path for n in columns.networks], list(map(str, columns.labels))):
        assert len(set(shared)) == len(shared)
    assert {n.path for n in columns.networks} == {v.network.path for _, v in world.vnics()}, "and nothing that none has"
    assert len({tuple(sorted(labels.items())) for labels in columns.labels}) == len(columns.labels)


@ANYHOW
@given(worlds(), st.randoms(use_true_random=False))
def test_rows_are_taken_in_any_order_and_as_often_as_asked(world: World, choice: random.Random) -> None:
    vms = shuffled(world, choice)
    columns = Columns.of(vms)
    chosen = choice.choices(range(len(vms)), k=choice.randrange(len(vms) + 3))
    event("some twice" if len(set(chosen)) < len(chosen) else "each once")
    for places in (chosen, np.array(chosen, np.int64)):
        taken = columns.take(places)
        require_whole(taken)
        assert read(taken) == [told(vms[at]) for at in chosen]
    assert read(columns) == list(map(told, vms)), "what is taken from stays as it is"


@ANYHOW
@given(worlds(), worlds(), st.randoms(use_true_random=False))
def test_rows_of_two_are_put_behind_each_other(one: World, other: World, choice: random.Random) -> None:
    first, second = shuffled(one, choice), shuffled(other, choice)[: choice.randrange(5)]
    joined = Columns.of(first).joined(Columns.of(second))
    require_whole(joined)
    assert read(joined) == list(map(told, (*first, *second)))
    chosen = choice.sample(range(len(first) + len(second)), len(first))
    assert read(joined.take(chosen)) == [told((*first, *second)[at]) for at in chosen]


def test_nobody_is_in_no_columns() -> None:
    nobody = Columns.of(())
    require_whole(nobody)
    assert read(nobody) == read(nobody.take([])) == read(nobody.joined(nobody)) == []


@given(worlds())
@settings(max_examples=10, deadline=None)
def test_nobody_makes_no_difference(world: World) -> None:
    columns, nobody = Columns.of(world.vms.values()), Columns.of(())
    expected = list(map(told, world.vms.values()))
    assert read(columns.joined(nobody)) == read(nobody.joined(columns)) == expected
    assert read(columns.joined(columns.take([]))) == read(columns.take([]).joined(columns)) == expected


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=12))
def test_ranges_one_behind_the_other(several: list[tuple[int, int]]) -> None:
    begins = np.array([begin for begin, _ in several], np.int64)
    ends = np.array([begin + length for begin, length in several], np.int64)
    expected = [place for begin, length in several for place in range(begin, begin + length)]
    assert ranges(begins, ends).tolist() == expected


@pytest.mark.parametrize("several", [[], [(3, 3)], [(5, 7), (0, 0), (1, 4)], [(2, 3), (2, 3)]])
def test_ranges_by_hand(several: list[tuple[int, int]]) -> None:
    found = ranges(np.array([b for b, _ in several], np.int64), np.array([e for _, e in several], np.int64))
    assert found.tolist() == [place for begin, end in several for place in range(begin, end)]
    assert found.dtype == np.int64
