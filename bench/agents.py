"""A process full of agents without kernels: each joins by a token of its own, and keeps its link until it is told to stop.

    python -m bench.agents URL TOKENS STATE HOSTS VMS VNICS TENANTS

TOKENS is a file: a JSON object of join tokens by host. What hosts run follows from the numbers, as in ``lab.population``.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from serai.agent.join import join
from serai.agent.link.runtime import LinkConfig
from serai.lab.population import Population, mac
from serai.lab.scale import Scale
from serai.lab.simulated import Pool, SimulatedAgent, SimulatedHost
from serai.model.inventory import Mac, VnicId, vnic_id
from serai.model.tenancy import Scope

_JOINS_AT_ONCE: Final = 8


async def main(url: str, tokens: Mapping[str, str], state: Path, scale: Scale) -> None:
    """Run all agents until SIGTERM."""
    guests = _guests(scale)
    pool = Pool()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_JOINS_AT_ONCE))
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    gc.disable()  # a real agent has a process to itself, and little in it for the collector to look through
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_agent(url, tokens[host], state / host, SimulatedHost(host, guests[host], pool)))
            for host in sorted(tokens)
        ]
        await told.wait()
        for each in running:
            each.cancel()


async def _agent(url: str, token: str, state: Path, host: SimulatedHost) -> None:
    if not (state / "identity" / "host.pem").exists():
        await asyncio.to_thread(join, url, token, state, host.name)
    await SimulatedAgent(host, LinkConfig(host=host.name, state=state)).run()


def _guests(scale: Scale) -> Mapping[str, Mapping[VnicId, Mac]]:
    population = Population(scale)
    found: dict[str, dict[VnicId, Mac]] = collections.defaultdict(dict)
    for tenant in range(scale.tenants):
        for vm in range(population.vms_of(tenant)):
            guests = found[population.host_of(tenant, vm)]
            number = vm * scale.tenants + tenant
            for at in range(scale.vnics):
                vnic = vnic_id(Scope(f"/t{tenant}"), f"vm{vm}", f"eth{at}")
                guests[vnic] = Mac(mac(number * scale.vnics + at))
    return found


if __name__ == "__main__":
    address, file, directory, *numbers = sys.argv[1:]
    hosts, vms, vnics, tenants = map(int, numbers)
    size = Scale(hosts=hosts, vms=vms, vnics=vnics, tenants=tenants)
    asyncio.run(main(address, json.loads(Path(file).read_text()), Path(directory), size))
