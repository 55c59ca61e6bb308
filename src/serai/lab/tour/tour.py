"""The tour from beginning to end."""

from __future__ import annotations

from collections.abc import Iterable

from serai.analysis.naming import HEADINGS, NamedRow
from serai.lab.datacenter import DataCenter
from serai.lab.error import LabError
from serai.lab.outside import TICK_PORT
from serai.lab.tour.access import enforce, observe
from serai.lab.tour.findings import Findings
from serai.lab.tour.matrix import verdict_on
from serai.lab.tour.migration import migrate
from serai.lab.tour.narrator import Narrator
from serai.lab.tour.spoof import spoof
from serai.lab.tour.stage import Stage, open_stage, since
from serai.lab.tour.survival import kill_agents
from serai.model.flow import Outcome
from serai.model.inventory import VirtualMachine
from serai.model.policy import Action
from serai.model.ports import TCP
from serai.model.world import World

_SHOWN = 15


async def run_tour(center: DataCenter, narrator: Narrator) -> Findings:
    """Show everything on the lab that is up, and return what was measured.

    LabError when the lab or its policies do not allow the tour.
    """
    async with open_stage(center, narrator) as stage:
        vm, neighbour = _actors(stage, stage.world())
        observed = await observe(stage)
        before = await stage.rows(stage.world())
        probes = observed + await enforce(stage)
        spoofed = await spoof(stage, vm, neighbour)
        migrated = await migrate(stage, vm, neighbour)
        killed = await kill_agents(stage, vm)
        rows = since(before, await stage.rows(stage.world()))
        _show_flows(narrator, rows)
    return Findings(probes=probes, spoof=spoofed, migration=migrated, agent_killed=killed, flow_rows=len(rows))


def _actors(stage: Stage, world: World) -> tuple[VirtualMachine, VirtualMachine]:
    """The VM that plays the lead (users may watch its ticks), and one beside it on its network."""
    for vm in world.vms.values():
        verdict = verdict_on(world, stage.network_of(vm).outside, vm, TCP, TICK_PORT)
        others = [o for o in world.vms.values() if o is not vm and o.vnics[0].network == vm.vnics[0].network]
        if verdict.action is Action.ACCEPT and others:
            return vm, others[-1]
    raise LabError(f"the tour needs a VM that outside users may reach on tcp/{TICK_PORT}, and another on its network")


def _show_flows(narrator: Narrator, rows: Iterable[NamedRow]) -> None:
    narrator.chapter(
        "What was seen", "The gates' own tables since enforcement began: every conversation, and everything denied."
    )
    ordered = sorted(rows, key=lambda row: (row.outcome is not Outcome.ACCEPTED, -row.packets))
    accepted = [row for row in ordered if row.outcome is Outcome.ACCEPTED]
    shown = [*accepted[:_SHOWN], *(row for row in ordered if row.outcome is not Outcome.ACCEPTED)][: 2 * _SHOWN]
    narrator.table(HEADINGS, [row.cells() for row in shown])
    if len(ordered) > len(shown):
        narrator.say(f"And {len(ordered) - len(shown)} more: 'serai lab flows' shows all.")
