"""The data center that plans are measured in, and the count of hosts."""

from __future__ import annotations

import collections

from bench import partitions, tagged
from bench.partitions import ROOM_MIB, by_partition, by_tags, hosts_for
from bench.tagged import ROOM_VNICS, VNICS, Tags, takes

CENTER = tagged.build(hosts=128, vms=20, tenants=600, fullness=0.8)


def test_all_are_where_they_may_be() -> None:
    held: collections.Counter[str] = collections.Counter()
    groups: collections.Counter[tuple[str, str]] = collections.Counter()
    for machine in CENTER.machines:
        assert machine.host in machine.allowed
        held[machine.host] += machine.memory_mib
        groups.update((machine.host, group) for group in machine.apart)
    assert set(groups.values()) == {1}
    assert len(CENTER.machines) == 128 * 20
    assert all(held[host.name] <= host.memory_mib for host in CENTER.hosts)
    total = sum(host.memory_mib for host in CENTER.hosts)
    assert 0.79 < held.total() / total <= 0.8


def test_tags_divide_the_hosts() -> None:
    counts = collections.Counter(len(machine.allowed) for machine in CENTER.machines)
    assert set(counts) == {16, 32, 112}, "one rack, two racks, or all but those that take none without a tag"
    assert all(count > 100 for count in counts.values())


def test_it_is_the_same_each_time() -> None:
    again = tagged.build(hosts=128, vms=20, tenants=600, fullness=0.8)
    assert again.machines == CENTER.machines
    assert tagged.build(hosts=128, vms=20, tenants=600, fullness=0.8, seed=2).machines != CENTER.machines


def test_exclusive_hosts_take_those_alone_that_have_the_tag() -> None:
    none, pci, gov, both = Tags(), Tags({"pci"}), Tags({"gov"}), Tags({"pci", "gov"})
    assert [takes(host, none) for host in (none, pci, gov, both)] == [True, True, False, False]
    assert [takes(host, pci) for host in (none, pci, gov, both)] == [False, True, False, False]
    assert [takes(host, gov) for host in (none, pci, gov, both)] == [False, False, True, True]


def test_hosts_are_counted() -> None:
    half = ROOM_MIB // 2
    assert hosts_for([]) == 0
    assert hosts_for([half, half]) == 1
    assert hosts_for([half + 1] * 3) == 3, "two do not fit on one, though all would need less than two"
    assert hosts_for([1] * (ROOM_VNICS // VNICS + 1)) == 2, "there is room for so many vNICs"


def test_pools_of_their_own_need_a_host_more_each_and_room_for_their_own_busiest_time() -> None:
    room = ROOM_MIB
    pci, dmz, gov = Tags({"pci"}), Tags({"dmz"}), Tags({"gov"})
    day = {pci: [room] * 3, dmz: [room] * 1, gov: [room]}
    night = {pci: [room] * 1, dmz: [room] * 3, gov: [room]}
    shared, apart = by_tags([day, night]), by_partition([day, night])
    assert shared.hosts == (4 + 1) + (1 + 1)
    assert apart.hosts == (3 + 1) + (3 + 1) + (1 + 1)
    assert (shared.memory_mib, apart.memory_mib) == (5 * room, 5 * room)
    assert shared.used == 5 / 7


def test_few_combinations_have_many_vms_and_who_runs_differs() -> None:
    day, night = partitions.moments(2000)
    assert partitions.moments(2000) == (day, night)
    sizes = sorted((max(len(day[tags]), len(night[tags])) for tags in day), reverse=True)
    assert sum(sizes) == 2000
    assert sizes[0] > 5 * sizes[len(sizes) // 2] / 2
    assert {len(day[tags]) > len(night[tags]) for tags in day if day[tags]} == {True, False}
