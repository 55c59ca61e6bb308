"""Why a VM stays where it should not: every host where it might go, and the rules that keep it from there."""

from __future__ import annotations

import numpy as np

from serai.migration.plan.answer import Block, Rule, Stuck
from serai.migration.plan.layout import Layout
from serai.migration.plan.program import Bools

_NAMED = 3
"""How many VMs a sentence names."""
_ROOM = ((Rule.MEMORY, "MiB of memory"), (Rule.VNICS, "vNICs"), (Rule.FLOWS, "flows"))


def explain(layout: Layout, machine: int) -> Stuck:
    """Explain one VM, with everybody where they are at the end of a plan."""
    kind = int(layout.kind[machine])
    named = layout.named(kind)
    blocks = [*_nowhere(layout, named), *_refused(layout, named), *_apart(layout, machine), *_full(layout, kind)]
    return Stuck(machine=layout.machines[machine].path, blocks=tuple(blocks))


def _nowhere(layout: Layout, named: Bools) -> list[Block]:
    if (named & ~layout.closed).any():
        return []
    hosts = _names(layout, named)
    why = f"all hosts that it may run on are to become empty: {', '.join(hosts)}" if hosts else "it may run on no host"
    return [Block(rule=Rule.PLACEMENT, hosts=hosts, why=why)]


def _refused(layout: Layout, named: Bools) -> list[Block]:
    refuse = named & ~layout.closed & ~layout.admits
    if not refuse.any():
        return []
    return [
        Block(rule=Rule.ADMISSION, hosts=_names(layout, refuse), why="not admitted to the pool, or taken out of it")
    ]


def _apart(layout: Layout, machine: int) -> list[Block]:
    kind, found = int(layout.kind[machine]), []
    for group in layout.apart[kind]:
        others = layout.group(group)
        others = others[(others != machine) & layout.spots(kind)[layout.place[others]]]
        if len(others):
            hosts = np.zeros(len(layout.hosts), bool)
            hosts[layout.place[others]] = True
            paths = [layout.machines[other].path for other in others.tolist()]
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            why = f"kept apart by {group} from {', '.join(paths[:_NAMED])}{more}"
            found.append(Block(rule=Rule.APART, hosts=_names(layout, hosts), why=why))
    return found


def _full(layout: Layout, kind: int) -> list[Block]:
    found, spots = [], layout.spots(kind)
    for at, (rule, what) in enumerate(_ROOM):
        need = int(layout.sizes[kind, at])
        free = layout.room[:, at] - layout.load[:, at]
        full = spots & (free < need)
        if need and full.any():
            most = max(int(free[full].max()), 0)
            why = f"needs {need} {what}; no more than {most} are free on any of these"
            found.append(Block(rule=rule, hosts=_names(layout, full), why=why))
    return found


def _names(layout: Layout, hosts: Bools) -> tuple[str, ...]:
    return tuple(layout.hosts[at].name for at in np.flatnonzero(hosts).tolist())
