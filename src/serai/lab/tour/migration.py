"""Step d: a live migration, with an open connection to keep and a flood to keep out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from serai.analysis.naming import NamedRow
from serai.lab.addresses import address_of
from serai.lab.outside import TICK_PORT, TickSession, flood_udp
from serai.lab.tour.findings import Migration
from serai.lab.tour.stage import Stage, since
from serai.model.flow import Outcome
from serai.model.inventory import VirtualMachine
from serai.model.policy import Direction
from serai.model.world import World

FLOOD_PORT = 9999
"""A UDP port that guests count datagrams on, and that no policy of the lab opens."""
_PER_SECOND = 300
_AFTER_SECONDS = 1.5
_MEET_SECONDS = 15.0
_POLL_SECONDS = 0.2


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
    address = address_of(vm)
    outside = lab.plan.outside_namespace(stage.network_of(vm).name)
    received_before = await _received(stage, vm, neighbour)
    before = {host: await stage.rows(world, host) for host in (origin, to)}
    with TickSession(outside, address, TICK_PORT) as session:
        async with _flood(lambda: _from_outside(outside, vm)), _flood(lambda: _from_vm(stage, vm, neighbour)):
            await _until_met(stage, world, origin, before[origin])
            session.mark()
            with stage.narrator.working(f"Moving {vm.path}"):
                moved = await asyncio.to_thread(stage.center.move, vm.path, to)
            await asyncio.sleep(_AFTER_SECONDS)
            ticks = session.report()
            await _until_met(stage, world, to, before[to])
        await asyncio.sleep(_AFTER_SECONDS)
        later = session.report()
    facts = moved.facts
    unprotected = await _received(stage, vm, neighbour) - received_before
    after = {host: await stage.rows(world, host) for host in (origin, to)}
    dropped = [row for host in (origin, to) for row in _dropped(before[host], after[host])]
    survived = later.alive and later.missing == 0 and later.ticks > ticks.ticks
    stage.narrator.found(
        f"The session {'survived' if survived else f'died ({later.error})'}: {later.ticks} ticks, {later.missing} "
        f"missing, longest silence {ticks.longest_silence_ms:.0f} ms.",
        good=survived,
    )
    stage.narrator.say(
        f"Rules were at host {to} before the move (ruleset {facts.digest[:12]}); flows carried: {facts.flows_first} "
        f"before the guest was stopped, {facts.flows_later} after it, or again. It took {moved.ended - moved.began:.1f} s; the guest stood "
        f"still for {(facts.gap_us or 0) / 1000:.0f} ms. The receipt is in the audit log: `serai moves verify {moved.ticket.move}`."
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


async def _until_met(stage: Stage, world: World, host: str, before: list[NamedRow]) -> None:
    """Wait until gates of ``host`` have dropped packets of both floods (a while at the most: what is missing is told)."""
    deadline = time.monotonic() + _MEET_SECONDS
    while time.monotonic() < deadline:
        if len({row.direction for row in _dropped(before, await stage.rows(world, host))}) == len(Direction):
            return
        await asyncio.sleep(_POLL_SECONDS)


def _dropped(before: list[NamedRow], after: list[NamedRow]) -> list[NamedRow]:
    """What was dropped of the floods between two readings."""
    service = f"udp/{FLOOD_PORT}"
    return [row for row in since(before, after) if row.outcome is Outcome.DENIED and row.service == service]


@contextlib.asynccontextmanager
async def _flood(burst: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Repeat a burst for as long as the block runs."""
    over = asyncio.Event()

    async def run() -> None:
        while not over.is_set():
            await burst()

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        over.set()
        await running


def _from_outside(outside: str, vm: VirtualMachine) -> Awaitable[int]:
    """A second of the flood to ``vm``."""
    address, marker = address_of(vm), f"SERAI-{secrets.token_hex(4)}-flood".encode()
    sending = flood_udp(outside, address, FLOOD_PORT, per_second=_PER_SECOND, seconds=1, marker=marker)
    return asyncio.wrap_future(sending)


def _from_vm(stage: Stage, vm: VirtualMachine, neighbour: VirtualMachine) -> Awaitable[int]:
    """A second of the flood from ``vm``."""
    address, marker = address_of(neighbour), f"SERAI-{secrets.token_hex(4)}-inside"
    return stage.shell(vm).flood(address, FLOOD_PORT, per_second=_PER_SECOND // 3, seconds=1, marker=marker)
