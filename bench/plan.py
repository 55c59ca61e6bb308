"""How long it takes to plan moves in a data center of full size, and what placement by tags saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from bench import partitions, tagged
from bench.metric import Metric
from serai.migration.plan.asked import Evacuate
from serai.migration.plan.planner import plan
from serai.migration.plan.proof import faults

HOSTS: Final = 512
VMS: Final = 320
"""On each host."""
TENANTS: Final = 40_000
FULLNESS: Final = (0.86, 0.95)
"""What share of their memory hosts have given away. At the lower most racks can be emptied; at the higher no rack with tags can."""
SITES: Final = {"": HOSTS * VMS, "small_": 20_480}
"""VMs of which hosts are counted."""

_KINDS: Final = 5
"""So many racks differ in their tags."""
_WHICH: Final = 3
"""Of the hosts of a rack."""


def measure() -> Iterator[Metric]:
    """All about plans."""
    yield from _times()
    yield from _sites()


def _times() -> Iterator[Metric]:
    """The slowest of each: a host, and a rack, of every kind, in data centers that are full to different degrees."""
    slowest = {"host": 0.0, "rack": 0.0}
    wrong = emptied = 0
    for fullness in FULLNESS:
        center = tagged.build(hosts=HOSTS, vms=VMS, tenants=TENANTS, fullness=fullness)
        for kind in range(_KINDS):
            rack = center.rack(kind)
            for what, hosts in (("host", frozenset({sorted(rack)[_WHICH]})), ("rack", rack)):
                goal = Evacuate(hosts=hosts)
                began = time.monotonic()
                made = plan(center.hosts, center.machines, goal)
                slowest[what] = max(slowest[what], time.monotonic() - began)
                wrong += len(faults(center.hosts, center.machines, goal, made))
                emptied += not made.stuck
    yield Metric(name="plan.host_s", value=slowest["host"], unit="s", goal=2)
    yield Metric(name="plan.rack_s", value=slowest["rack"], unit="s", goal=30)
    yield Metric(name="plan.faults", value=wrong, unit="", goal=0)
    yield Metric(name="plan.emptied", value=emptied, unit=f"of {2 * _KINDS * len(FULLNESS)} goals")


def _sites() -> Iterator[Metric]:
    for name, vms in SITES.items():
        times = partitions.moments(vms)
        tags, vlan = partitions.by_tags(times), partitions.by_partition(times)
        yield Metric(name=f"plan.{name}hosts_tags", value=tags.hosts, unit="hosts", goal=vlan.hosts)
        yield Metric(name=f"plan.{name}hosts_vlan", value=vlan.hosts, unit="hosts")
        yield Metric(name=f"plan.{name}used_tags_pct", value=100 * tags.used, unit="%")
        yield Metric(name=f"plan.{name}used_vlan_pct", value=100 * vlan.used, unit="%")
        still = times[:1]
        tags, vlan = partitions.by_tags(still), partitions.by_partition(still)
        yield Metric(name=f"plan.{name}hosts_tags_day", value=tags.hosts, unit="hosts", goal=vlan.hosts)
        yield Metric(name=f"plan.{name}hosts_vlan_day", value=vlan.hosts, unit="hosts")
