"""Makes a plan."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from serai.migration.plan.answer import Move, Plan
from serai.migration.plan.asked import Goal, Machine, PlanError, PlanHost, Rebalance
from serai.migration.plan.blocked import explain
from serai.migration.plan.evacuate import evacuate
from serai.migration.plan.layout import Layout
from serai.migration.plan.look import Step
from serai.migration.plan.rebalance import rebalance


def plan(hosts: Iterable[PlanHost], machines: Iterable[Machine], goal: Goal) -> Plan:
    """Say who moves where.

    Args:
        hosts: all of them, those included to which nobody may move.
        machines: all of them, with where they are now.
        goal: what shall become of them.

    Returns:
        The same plan for the same input, in whichever order it is told.

    Raises:
        PlanError: the input cannot be.
    """
    hosts = tuple(hosts)
    names = {host.name for host in hosts}
    for name in sorted(goal.hosts - names):
        raise PlanError(f"{name} is none of the hosts: name one that is there")
    if isinstance(goal, Rebalance):
        layout = Layout(hosts, machines, frozenset(names - goal.hosts))
        rounds, proven = rebalance(layout, goal)
        return Plan(rounds=_told(layout, rounds), proven=proven)
    layout = Layout(hosts, machines, goal.hosts)
    rounds, proven = evacuate(layout)
    stuck = np.flatnonzero(layout.closed[layout.place]).tolist()
    return Plan(rounds=_told(layout, rounds), stuck=tuple(explain(layout, machine) for machine in stuck), proven=proven)


def _told(layout: Layout, rounds: Iterable[Iterable[Step]]) -> tuple[tuple[Move, ...], ...]:
    names = [host.name for host in layout.hosts]
    told = (
        tuple(
            Move(machine=layout.machines[machine].path, source=names[source], to=names[to])
            for machine, source, to in sorted(steps)
        )
        for steps in rounds
    )
    return tuple(moves for moves in told if moves)
