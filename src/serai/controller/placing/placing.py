"""Where VMs are in force, and whether they may be there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from serai.access.decide import Caller, scopes
from serai.access.verbs import Verb
from serai.controller.current import Current
from serai.controller.errors import ForbiddenError
from serai.controller.placing.found import Owners
from serai.controller.placing.report import expected, report
from serai.controller.shard import Shard
from serai.controller.standing import may_see_hosts
from serai.controller.views import may_see
from serai.controller.whereabouts import Sign
from serai.model.world import World
from serai.wire import placementapi


class Placing:
    """Looks at it. Only the controller that leads knows what hosts report; others take VMs to be where they are expected."""

    def __init__(self, current: Current, shard: Shard) -> None:
        """Ask these."""
        self._current, self._shard = current, shard
        self._owners = Owners()

    async def report(self, who: Caller) -> placementapi.PlacementReport:
        """Say what is wrong about where VMs are, of those that this person may see, and whom hosts can meet.

        Raises:
            ForbiddenError: this person may see nothing.
        """
        if not scopes(who, Verb.READ):
            raise ForbiddenError(f"{who.name} may not see anything here: it takes a role")
        edition = await self._current.catch_up()
        world, signs = edition.catalog.world, self._shard.signs()

        def look() -> placementapi.PlacementReport:
            told = self._reported(world, signs)
            return report(
                world, {**expected(world), **told}, revision=edition.revision, reported=frozenset(told),
                sees=lambda scope: may_see(who, scope), names_hosts=may_see_hosts(who),
            )  # fmt: skip

        return await asyncio.to_thread(look)

    def _reported(self, world: World, signs: Mapping[str, frozenset[Sign]]) -> dict[str, str]:
        """Return the host that each VM is reported on; of several, amid a move, the last by name."""
        owners = self._owners.of(world.vms)
        return {owners[sign]: host for host in sorted(signs) for sign in signs[host] if sign in owners}
