"""The data center as the steps of the tour use it: open lines to all guests, and what the gates have on record."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping

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
        await asyncio.to_thread(self.center.apply)
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
    seen = {record: _total(rows) for record, rows in _by_record(before).items()}
    grown = []
    for record, rows in _by_record(after).items():
        packets, size, connections = (
            now - then for now, then in zip(_total(rows), seen.get(record, (0, 0, 0)), strict=True)
        )
        if packets > 0:
            grown.append(dataclasses.replace(rows[-1], packets=packets, bytes=size, connections=max(connections, 1)))
    return grown


def _by_record(rows: Iterable[NamedRow]) -> dict[tuple[str | int | None, ...], list[NamedRow]]:
    """The rows by what tells counters apart: the far end's name does not, where it is only the last one of many."""
    found: dict[tuple[str | int | None, ...], list[NamedRow]] = {}
    for row in rows:
        named = dataclasses.replace(row, source=row.near, target="") if row.counts_a_class else row
        record = (*named.kind, row.identity if row.counts_a_class else None)
        found.setdefault(record, []).append(row)
    return found


def _total(rows: Iterable[NamedRow]) -> tuple[int, int, int]:
    counts = [(row.packets, row.bytes, row.connections) for row in rows]
    packets, sizes, connections = map(sum, zip(*counts, strict=True))
    return packets, sizes, connections
