"""The tour from beginning to end."""

from __future__ import annotations

from datetime import UTC, datetime

from serai.lab.datacenter import DataCenter
from serai.lab.error import LabError
from serai.lab.outside import TICK_PORT
from serai.lab.tour.access import enforce, observe
from serai.lab.tour.findings import Findings
from serai.lab.tour.matrix import verdict_on
from serai.lab.tour.migration import migrate
from serai.lab.tour.narrator import Narrator
from serai.lab.tour.spoof import spoof
from serai.lab.tour.stage import Stage, open_stage
from serai.lab.tour.survival import kill_agents
from serai.lab.tour.traffic import show_traffic
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action
from serai.model.ports import TCP
from serai.model.world import World


async def run_tour(center: DataCenter, narrator: Narrator) -> Findings:
    """Show everything on the lab that is up, and return what was measured.

    LabError when the lab or its policies do not allow the tour.
    """
    began = datetime.now(UTC)
    async with open_stage(center, narrator) as stage:
        vm, neighbour = _actors(stage, stage.world())
        observed = await observe(stage)
        probes = observed + await enforce(stage)
        spoofed = await spoof(stage, vm, neighbour)
        migrated = await migrate(stage, vm, neighbour)
        killed = await kill_agents(stage, vm)
        recorded = await show_traffic(stage, began)
    return Findings(probes=probes, spoof=spoofed, migration=migrated, agent_killed=killed, recorded=recorded)


def _actors(stage: Stage, world: World) -> tuple[VirtualMachine, VirtualMachine]:
    """The VM that plays the lead (users may watch its ticks), and one beside it on its network."""
    for vm in world.vms.values():
        verdict = verdict_on(world, stage.network_of(vm).outside, vm, TCP, TICK_PORT)
        others = [o for o in world.vms.values() if o is not vm and o.vnics[0].network == vm.vnics[0].network]
        if verdict.action is Action.ACCEPT and others:
            return vm, others[-1]
    raise LabError(f"the tour needs a VM that outside users may reach on tcp/{TICK_PORT}, and another on its network")
