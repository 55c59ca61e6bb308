"""A data center whose hosts and VMs carry tags, with memory: what plans are made of. The same one for the same numbers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Final

from serai.migration.plan.asked import Machine, PlanHost

Tags = frozenset[str]

RACK: Final = 16
"""Hosts."""
VNICS: Final = 10
"""Of each VM."""
ROOM_VNICS: Final = 4095
"""Of each host; see ``serai.model.records``."""
EXCLUSIVE: Final[Tags] = frozenset({"gov"})
"""Hosts with such a tag take only VMs that have it; all others take VMs without tags, too."""
MEMORY_MIB: Final = (1024, 2048, 2048, 3072, 4096, 6144, 8192, 16384)
"""Of VMs, each as likely as the others."""

_RACKS: Final = (
    frozenset({"pci"}),
    frozenset({"dmz"}),
    frozenset({"pci", "dmz"}),
    frozenset({"gov"}),
    Tags(),
    Tags(),
    Tags(),
    Tags(),
)
"""Tags of the hosts of a rack, in turn."""
_ZONES: Final = (
    (frozenset({"pci", "dmz"}), 0.08), (frozenset({"gov"}), 0.115), (frozenset({"pci"}), 0.16), (frozenset({"dmz"}), 0.12),
)  # fmt: skip
"""Tags of VMs, and how many of all VMs have them, those first that fewest hosts take; the others have none."""
_TRIES: Final = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tagged:
    """Hosts and VMs."""

    hosts: Sequence[PlanHost]
    tags: Sequence[Tags]
    """Of each host."""
    machines: Sequence[Machine]

    def rack(self, number: int) -> frozenset[str]:
        """Return the names of the hosts of a rack."""
        return frozenset(host.name for host in self.hosts[number * RACK : (number + 1) * RACK])


def takes(host: Tags, vm: Tags) -> bool:
    """Say whether a host takes a VM: it has all of its tags, and none that is exclusive beside."""
    return vm <= host and host & EXCLUSIVE <= vm


def build(*, hosts: int, vms: int, tenants: int, fullness: float, seed: int = 1) -> Tagged:
    """Build a data center.

    Args:
        hosts: how many.
        vms: on each host, on the average.
        tenants: every fourth keeps its VMs on different hosts.
        fullness: what share of their memory hosts have given away, on the average.
        seed: another one, another data center.
    """
    choice = random.Random(seed)  # noqa: S311 (the same every time, on purpose)
    names = [f"host-{number}" for number in range(hosts)]
    tags = [_RACKS[number // RACK % len(_RACKS)] for number in range(hosts)]
    count = hosts * vms
    zones = [zone for zone, share in _ZONES for _ in range(int(tenants * share))]
    zones += [Tags()] * (tenants - len(zones))
    fits = {zone: [at for at in range(hosts) if takes(tags[at], zone)] for zone in set(zones)}
    allowed = {zone: frozenset(names[at] for at in found) for zone, found in fits.items()}
    memory = [choice.choice(MEMORY_MIB) for _ in range(count)]
    room = int(sum(memory) / hosts / fullness)
    free, seats, used = [room] * hosts, [ROOM_VNICS // VNICS] * hosts, [set[int]() for _ in range(hosts)]
    machines = []
    for number in sorted(range(count), key=lambda number: (number % tenants, number)):
        tenant, need = number % tenants, memory[number]
        apart = tenant % 4 == 0

        def may(at: int, need: int = need, tenant: int = tenant, *, apart: bool = apart) -> bool:
            return free[at] >= need and seats[at] > 0 and not (apart and tenant in used[at])

        some = [at for at in choice.sample(fits[zones[tenant]], min(_TRIES, len(fits[zones[tenant]]))) if may(at)]
        at = max(some or filter(may, fits[zones[tenant]]), key=lambda at: free[at])
        free[at] -= need
        seats[at] -= 1
        used[at].add(tenant)
        machines.append(
            Machine(
                path=f"/t{tenant}:vm{number // tenants}", host=names[at], memory_mib=need, vnics=VNICS,
                allowed=allowed[zones[tenant]], apart=(f"t{tenant}",) if apart else (),
            )
        )  # fmt: skip
    told = [PlanHost(name=name, memory_mib=room, vnics=ROOM_VNICS) for name in names]
    return Tagged(hosts=told, tags=tags, machines=machines)
