"""A plan as it is told: what hosts have before and after it, and why VMs are stuck. No I/O."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from serai.controller.planning.known import Known
from serai.controller.planning.survey import Survey
from serai.controller.planning.wording import Wording
from serai.migration.plan.answer import Plan
from serai.migration.plan.asked import Machine
from serai.wire.planapi import HostLoad, PlannedHost, PlannedMove, PlanReply, PlanRequest, StuckVm


def reply(known: Known, request: PlanRequest, survey: Survey, plan: Plan) -> PlanReply:
    """Tell a plan."""
    wording, machines = Wording(survey), survey.machines
    return PlanReply(
        goal=request,
        revision=known.revision,
        rounds=[
            [
                PlannedMove(vm=move.machine, source=move.source, to=move.to, memory=machines[move.machine].memory_mib)
                for move in moves
            ]
            for moves in plan.rounds
        ],
        stuck=[
            StuckVm(vm=each.machine, host=machines[each.machine].host, why=wording.why(each))
            for each in plan.stuck
            if each.machine not in survey.leaving
        ],
        proven=plan.proven,
        hosts=_hosts(known, request, survey, plan),
    )


def _hosts(known: Known, request: PlanRequest, survey: Survey, plan: Plan) -> list[PlannedHost]:
    """Tell of the hosts that a plan is about."""
    machines = survey.machines
    to = {move.machine: move.to for move in plan.moves}
    before = _loads((machine.host, machine) for machine in machines.values())
    after = _loads(
        (to.get(name, machine.host), machine) for name, machine in machines.items() if name not in survey.leaving
    )
    asked = known.world.placement.pools[request.rebalance].hosts if request.rebalance else survey.goal.hosts
    names = {*asked, *(host for move in plan.moves for host in (move.source, move.to))}
    nothing = HostLoad(vms=0, memory=0, vnics=0)
    return [
        PlannedHost(
            host=name, memory=host.memory_mib, headroom=facts.memory - host.memory_mib if facts else 0, vnics=host.vnics,
            before=before.get(name, nothing), after=after.get(name, nothing), closed=survey.closed.get(name, ""),
            unknown=survey.unknown.get(name, 0),
        )
        for name in sorted(names & survey.hosts.keys())
        for host, facts in ((survey.hosts[name], known.facts.get(name)),)
    ]  # fmt: skip


def _loads(placed: Iterable[tuple[str, Machine]]) -> Mapping[str, HostLoad]:
    found: dict[str, list[Machine]] = collections.defaultdict(list)
    for host, machine in placed:
        found[host].append(machine)
    return {
        host: HostLoad(
            vms=len(there), memory=sum(each.memory_mib for each in there), vnics=sum(each.vnics for each in there)
        )
        for host, there in found.items()
    }
