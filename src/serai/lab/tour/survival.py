"""Step e: the gates without their agent."""

from __future__ import annotations

import asyncio

from serai.lab.outside import TickSession
from serai.lab.tour.findings import AgentKilled
from serai.lab.tour.matrix import try_all
from serai.lab.tour.stage import Stage
from serai.model.inventory import VirtualMachine


async def kill_agents(stage: Stage, vm: VirtualMachine) -> AgentKilled:
    """Kill every agent, try everything again, and bring the agents back."""
    stage.narrator.chapter(
        "The agent dies",
        "The agents of all hosts are killed (SIGKILL). The gates are pinned in the kernel and need nobody.",
    )
    world = stage.world()
    hosts = [host.name for host in stage.center.lab.hosts]
    outside = stage.center.lab.plan.outside_namespace(stage.network_of(vm).name)
    with TickSession(outside, vm.vnics[0].addresses[0]) as session:
        for host in hosts:
            await asyncio.to_thread(stage.center.kill_agent, host)
        before = session.report().ticks
        with stage.narrator.working("Every connection again, with no agent alive"):
            tried = await try_all(stage, world)
        alone = session.report()
        with stage.narrator.working("Starting the agents again"):
            await asyncio.gather(*(asyncio.to_thread(stage.center.start_agent, host) for host in hosts))
        session_lives = alone.alive and alone.ticks > before and session.report().alive
    leaked = sum((t.reached and not t.passes) or t.astray for t in tried)
    broken = sum(t.passes and not t.reached for t in tried) + (not session_lives)
    stage.narrator.found(
        f"{leaked} denied connections leaked, {broken} accepted ones broke (of {len(tried)}, and one session that "
        "stayed open all the while).",
        good=leaked == broken == 0,
    )
    statuses = await asyncio.to_thread(stage.center.statuses)
    gates = sum(len(status.gates) for status in statuses.values() if status)
    stage.narrator.say(f"The agents are back and have found {gates} gates in place.")
    return AgentKilled(leaked=leaked, broken=broken)
