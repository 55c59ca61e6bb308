"""The data center as the steps of the tour use it: open lines to all guests, and what the gates have on record."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping

from serai.analysis.naming import NamedRow
from serai.lab.console import GuestShell
from serai.lab.datacenter import DataCenter
from serai.lab.plan import LabNetwork
from serai.lab.tour.narrator import Narrator
from serai.model.inventory import VirtualMachine
from serai.model.tenancy import Mode
from serai.model.world import World


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What every step works with."""

    center: DataCenter
    narrator: Narrator
    shells: Mapping[str, GuestShell]
    """By the guest's domain."""

    def world(self) -> World:
        """The policies as they stand in the lab's directory."""
        return self.center.policies.load()

    def shell(self, vm: VirtualMachine) -> GuestShell:
        """The line to a VM."""
        return self.shells[vm.domain or vm.name]

    def network_of(self, vm: VirtualMachine) -> LabNetwork:
        """The lab's network that a VM's vNIC is on."""
        plan = self.center.lab.plan
        return plan.network(plan.guest(vm.domain or vm.name).network)

    async def set_mode(self, mode: Mode) -> World:
        """Write the mode into the policies and have every host enforce them."""
        self.center.policies.set_mode(mode)
        world = self.world()
        await asyncio.to_thread(self.center.apply, world)
        return world

    async def rows(self, world: World, *hosts: str) -> list[NamedRow]:
        """What the gates of these hosts (none given: of all) have counted so far."""
        return await asyncio.to_thread(self.center.rows, world, *hosts)


@contextlib.asynccontextmanager
async def open_stage(center: DataCenter, narrator: Narrator) -> AsyncIterator[Stage]:
    """Open a line to every guest, and close them at the end."""
    async with contextlib.AsyncExitStack() as stack:
        domains = [guest.domain for guest in center.lab.plan.guests]
        shells = {domain: await stack.enter_async_context(center.lab.shell(domain)) for domain in domains}
        await asyncio.gather(*(shell.ready() for shell in shells.values()))
        yield Stage(center=center, narrator=narrator, shells=shells)


def since(before: list[NamedRow], after: list[NamedRow]) -> list[NamedRow]:
    """What was counted between two readings."""
    seen = {row.kind: row for row in before}
    grown = []
    for row in after:
        old = seen.get(row.kind)
        packets = row.packets - (old.packets if old else 0)
        if packets > 0:
            size = row.bytes - (old.bytes if old else 0)
            connections = max(row.connections - (old.connections if old else 0), 1)
            grown.append(dataclasses.replace(row, packets=packets, bytes=size, connections=connections))
    return grown
