"""Step e: the gates without their agent."""

from __future__ import annotations

import asyncio
import time

from serai.lab.addresses import address_of
from serai.lab.outside import TickSession
from serai.lab.tour.findings import AgentKilled
from serai.lab.tour.matrix import try_all
from serai.lab.tour.stage import Stage
from serai.model.inventory import VirtualMachine

_LOOK_SECONDS = 10.0
_POLL_SECONDS = 0.1


async def kill_agents(stage: Stage, vm: VirtualMachine) -> AgentKilled:
    """Kill every agent, try everything again, and bring the agents back."""
    stage.narrator.chapter(
        "The agent dies",
        "The agents of all hosts are killed (SIGKILL). The gates are pinned in the kernel and need nobody.",
    )
    world = stage.world()
    hosts = [host.name for host in stage.center.lab.hosts]
    outside = stage.center.lab.plan.outside_namespace(stage.network_of(vm).name)
    gates_before = await _gates(stage)
    with TickSession(outside, address_of(vm)) as session:
        for host in hosts:
            await asyncio.to_thread(stage.center.kill_agent, host)
        before = session.report().ticks
        try:
            with stage.narrator.working("Every connection again, with no agent alive"):
                tried = await try_all(stage, world)
            alone = session.report()
        finally:
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
    found = await _gates_again(stage, gates_before)
    stage.narrator.found(
        f"The agents are back and have found {len(found & gates_before)} of {len(gates_before)} gates in place.",
        good=found == gates_before,
    )
    return AgentKilled(leaked=leaked, broken=broken, gates_kept=found == gates_before)


async def _gates(stage: Stage) -> set[tuple[str, int, str | None]]:
    """Every gate: host, interface and the vNIC that it guards."""
    statuses = await asyncio.to_thread(stage.center.statuses)
    return {(host, g.ifindex, g.vnic) for host, status in statuses.items() if status for g in status.gates}


async def _gates_again(stage: Stage, wanted: set[tuple[str, int, str | None]]) -> set[tuple[str, int, str | None]]:
    """The gates, once the agents have looked around."""
    deadline = time.monotonic() + _LOOK_SECONDS
    while (found := await _gates(stage)) != wanted and time.monotonic() < deadline:  # noqa: ASYNC110  # agents are asked
        await asyncio.sleep(_POLL_SECONDS)
    return found
