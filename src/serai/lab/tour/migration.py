"""Step d: a live migration, with an open connection to keep and a flood to keep out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator

from serai.lab.outside import TICK_PORT, TickSession, flood_udp
from serai.lab.tour.findings import Migration
from serai.lab.tour.stage import Stage, since
from serai.model.flow import Outcome
from serai.model.inventory import VirtualMachine
from serai.model.policy import Direction

FLOOD_PORT = 9999
"""A UDP port that guests count datagrams on, and that no policy of the lab opens."""
_PER_SECOND = 300
_GUEST_FLOOD_SECONDS = 8
_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 1.5


async def migrate(stage: Stage, vm: VirtualMachine, neighbour: VirtualMachine) -> Migration:
    """Move ``vm`` to another host while users hold a session with it, and floods go to and from it."""
    lab = stage.center.lab
    origin = lab.where_is(vm.domain or vm.name)
    to = next(host.name for host in lab.hosts if host.name != origin)
    stage.narrator.chapter(
        "A live migration",
        f"{vm.path} moves from host {origin} to host {to} over TLS, with its rules there first and its connections "
        "along. A user's TCP session to it ticks every 10 ms; floods that the policies deny go to it and from it.",
    )
    world = stage.world()
    address = vm.vnics[0].addresses[0]
    outside = lab.plan.outside_namespace(stage.network_of(vm).name)
    received_before = await _received(stage, vm, neighbour)
    before = {host: await stage.rows(world, host) for host in (origin, to)}
    with TickSession(outside, address, TICK_PORT) as session:
        async with _flood(outside, vm):
            from_vm = asyncio.create_task(_flood_from(stage, vm, neighbour))
            await asyncio.sleep(_BEFORE_SECONDS)
            session.mark()
            with stage.narrator.working(f"Moving {vm.path}"):
                moved = await asyncio.to_thread(stage.center.move, world, vm.path, to)
            await asyncio.sleep(_AFTER_SECONDS)
        ticks = session.report()
        await from_vm
        await asyncio.sleep(_AFTER_SECONDS)
        later = session.report()
    unprotected = await _received(stage, vm, neighbour) - received_before
    dropped = [
        row
        for host in (origin, to)
        for row in since(before[host], await stage.rows(world, host))
        if row.outcome is Outcome.DENIED and row.service == f"udp/{FLOOD_PORT}"
    ]
    survived = later.alive and later.missing == 0 and later.ticks > ticks.ticks
    stage.narrator.found(
        f"The session {'survived' if survived else f'died ({later.error})'}: {later.ticks} ticks, {later.missing} "
        f"missing, longest silence {ticks.longest_silence_ms:.0f} ms.",
        good=survived,
    )
    stage.narrator.say(
        f"Rules were at host {to} before the move (ruleset {moved.digest[:12]}); flows carried: {moved.flows_first} "
        f"before it, {moved.flows_later} while it went on. It took {moved.seconds:.1f} s."
    )
    for row in dropped:
        stage.narrator.say(f"Dropped of the flood {row.source} -> {row.target}: {row.packets} (host {row.host}).")
    unmet = sorted(set(itertools.product((origin, to), Direction)) - {(row.host, row.direction) for row in dropped})
    stage.narrator.found(
        "Both floods met the gate before the move and after it."
        if not unmet
        else "Too little is shown: no flood met the gate on " + ", ".join(f"host {h} ({d})" for h, d in unmet) + ".",
        good=not unmet,
    )
    stage.narrator.found(f"{unprotected} packets of the floods reached a guest.", good=unprotected == 0)
    return Migration(
        tcp_survived=survived,
        gap_ms=ticks.longest_silence_ms,
        unprotected_packets=unprotected,
        flood_met_the_gate=not unmet,
    )


async def _received(stage: Stage, *vms: VirtualMachine) -> int:
    """How many datagrams the flooded service of these guests has received, by the guests' own count."""
    counts = await asyncio.gather(*(stage.shell(vm).received() for vm in vms))
    return sum(count.get(FLOOD_PORT, 0) for count in counts)


@contextlib.asynccontextmanager
async def _flood(outside: str, vm: VirtualMachine) -> AsyncIterator[None]:
    """Flood ``vm`` from outside for as long as the block runs, second by second."""
    address = vm.vnics[0].addresses[0]
    marker = f"SERAI-{secrets.token_hex(4)}-flood".encode()

    over = asyncio.Event()

    async def run() -> None:
        while not over.is_set():
            sending = flood_udp(outside, address, FLOOD_PORT, per_second=_PER_SECOND, seconds=1, marker=marker)
            await asyncio.wrap_future(sending)

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        over.set()
        await running


async def _flood_from(stage: Stage, vm: VirtualMachine, neighbour: VirtualMachine) -> int:
    marker = f"SERAI-{secrets.token_hex(4)}-inside"
    return await stage.shell(vm).flood(
        neighbour.vnics[0].addresses[0],
        FLOOD_PORT,
        per_second=_PER_SECOND // 3,
        seconds=_GUEST_FLOOD_SECONDS,
        marker=marker,
    )
